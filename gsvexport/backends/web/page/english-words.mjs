// Words → phones: gsvexport/text/en/phonemes.py and what it asks, by its tables.

import {SortedLines, weights} from './english-tables.mjs';

// A table that is fetched when the first word asks for it.
export class Missing extends Error {
  constructor(name) { super(`english/${name} is not there yet`), (this.name = 'Missing'), (this.file = name); }
}

export class Words {
  constructor(tables) {
    this.tables = tables, this.kept = new Map();
    const {heteronyms, letters} = tables;
    this.sets = Object.fromEntries(Object.entries(heteronyms.sets).map(([name, words]) => [name, new Set(words)]));
    this.near = Object.fromEntries(Object.entries(heteronyms.near).map(([word, one]) => [word, {...one, after: new Set(one.after), before: new Set(one.before)}]));
    Object.setPrototypeOf(this.near, null);
    this.sounds = Object.fromEntries(Object.entries(letters.rules).map(([letter, rules]) => [letter, rules.map(
      ([before, part, after, phones]) => ({before: new RegExp(before), part, after: new RegExp(after, 'y'), phones}))]));
    this.stress = Object.fromEntries(['before', 'two_before', 'foreign'].map(name => [name, new RegExp(letters[name])]));
    this.vowels = new Set(letters.vowels);
    for (const rule of Object.values(heteronyms.rules)) if (!READINGS[rule]) throw new Error(`english/rules.json asks for '${rule}', which this page does not have`);
  }

  // The bytes of a table, unpacked.
  add(name, bytes) {
    if (name === 'dictionary.bin') {
      [this.dictionary] = SortedLines.unpacked(bytes, 0);
      this.phones = String.fromCharCode(...this.dictionary.get('')).split(' ');
    } else if (name === 'words.bin') {
      const [one, next] = SortedLines.unpacked(bytes, 0);
      this.counts = [one, SortedLines.unpacked(bytes, next)[0]];
    } else this.network = weights(bytes, this.tables.network.shapes);
  }

  need(what, name) {
    if (!this[what]) throw new Missing(name);
    return this[what];
  }

  pronounce(word) {
    const codes = word && this.need('dictionary', 'dictionary.bin').get(word);
    return codes ? Array.from(codes, code => this.phones[code - this.tables.words.first_code]) : null;
  }

  // The phones of the word at `place` among words and signs.
  at(tokens, place) { return this.heteronym(tokens, place) ?? this.word(tokens[place]); }

  word(spelling) {
    if (!this.kept.has(spelling)) this.kept.set(spelling, this.wordNew(spelling));
    return this.kept.get(spelling);
  }

  wordNew(given) {
    const {letters, spelled, longest} = this.tables.words, names = some => Array.from(some).flatMap(one => letters[one]);
    if (given.startsWith(this.tables.characters.letter)) return given.length > 2 ? withS(letters[given[1]]) : letters[given[1]];
    const first = this.known(given);
    if (first) return first;
    const spelling = given.replace(/^['-]+|['-]+$/g, ''), second = this.known(spelling);
    if (second) return second;
    if (spelling.endsWith("'s")) return withS(this.word(spelling.slice(0, -2)));
    const small = spelling.replace(/[^a-z]/g, '');
    if (small.length <= spelled) return names(small);
    if (small.length > longest) return this.soundOut(small);
    const parts = this.segment(small);
    if (parts.length > 1) return parts.flatMap(one => (one.length === 1 ? letters[one] : this.word(one)));
    const read = this.predict(spelling);
    return read.length ? read : this.soundOut(small);
  }

  known(spelling) {
    const {names, letter_words} = this.tables.words;
    return spelling.length > 1 ? names[spelling] ?? this.pronounce(spelling) : letter_words[spelling];
  }

  // The logarithm of a probability that is kept in one byte.
  logarithm(code) {
    const {step, lowest, total} = this.tables.segment;
    return code ? (code[0] - 33) * step + lowest - total : null;
  }

  frequency(word) { return this.logarithm(this.need('counts', 'words.bin')[0].get(word)); }

  // Words written together, taken apart: the likeliest cut.
  segment(text) {
    const {total, longest} = this.tables.segment, pairs = this.need('counts', 'words.bin')[1], best = new Map(), often = new Map();
    const alone = word => {
      if (!often.has(word)) often.set(word, this.frequency(word));
      return often.get(word) ?? 1 - total - word.length;
    };
    const after = (before, word) => {
      const pair = this.logarithm(pairs.get(`${before} ${word}`));
      alone(before);
      return pair === null || often.get(before) === null ? alone(word) : pair - often.get(before);
    };
    const found = (start, end) => best.get(start * 64 + end);
    for (let end = 1; end <= text.length; end++)
      for (let start = Math.max(0, end - longest); start < end; start++) {
        const word = text.slice(start, end);
        let chosen = start ? null : [alone(word), [word]];
        for (let first = Math.max(0, start - longest); first < start; first++) {
          const [score, words] = found(first, start), one = [score + after(text.slice(first, start), word), [...words, word]];
          if (!chosen || larger(one, chosen)) chosen = one;
        }
        best.set(start * 64 + end, chosen);
      }
    let chosen = null;
    for (let start = Math.max(0, text.length - longest); start < text.length; start++)
      if (!chosen || larger(found(start, text.length), chosen)) chosen = found(start, text.length);
    return chosen[1];
  }

  // By the network: two gated recurrent units.
  predict(word) {
    const {letters, phones, start, end, longest} = this.tables.network, {enc_emb, dec_emb, fc_w, fc_b} = this.need('network', 'network.bin');
    const unknown = letters.indexOf('<unk>'), found = [];
    let hidden = new Float32Array(256), row;
    for (const letter of [...word, '</s>']) {
      const place = letters.indexOf(letter);
      hidden = this.step('enc', enc_emb, place < 0 ? unknown : place, hidden);
    }
    row = start;
    for (let count = 0; count < longest; count++) {
      hidden = this.step('dec', dec_emb, row, hidden);
      const scores = product(fc_w, hidden, fc_b);
      row = scores.indexOf(Math.max(...scores));
      if (row === end) break;
      found.push(phones[row]);
    }
    return found.filter(phone => !phone.startsWith('<')).map(phone => (phone === 'UW' ? 'UW1' : phone));
  }

  // What a row of a table becomes is the same in every word.
  step(side, table, row, hidden) {
    const {network} = this, known = (network[`${side}_rows`] ??= []), given = table.subarray(row * 256, (row + 1) * 256);
    const fresh = (known[row] ??= product(network[`${side}_w_ih`], given, network[`${side}_b_ih`]));
    const old = product(network[`${side}_w_hh`], hidden, network[`${side}_b_hh`]), next = new Float32Array(256);
    const gate = place => 1 / (1 + Math.exp(-Math.fround(fresh[place] + old[place])));
    for (let i = 0; i < 256; i++) {
      const update = gate(256 + i), candidate = Math.tanh(fresh[512 + i] + gate(i) * old[512 + i]);
      next[i] = (1 - update) * candidate + update * hidden[i];
    }
    return next;
  }

  // By rules, letter by letter.
  soundOut(word) {
    const found = [];
    for (let place = 0; place < word.length; )
      for (const {before, part, after, phones} of this.sounds[word[place]]) {
        after.lastIndex = place + part.length;
        if (!word.startsWith(part, place) || !after.test(word) || !before.test(word.slice(0, place))) continue;
        found.push(...phones), place += part.length;
        break;
      }
    const {weak} = this.tables.letters, places = found.flatMap((phone, place) => (this.vowels.has(phone) ? [place] : []));
    let main = 0;
    if (places.length > 1 && this.stress.before.test(word)) main = places.length - 2;
    else if (places.length > 2) main = places.length - (this.stress.foreign.test(word) && !this.stress.two_before.test(word) ? 2 : 3);
    places.forEach((place, number) => (found[place] = number === main ? `${found[place]}1` : `${weak[found[place]] ?? found[place]}0`));
    return found;
  }

  // The phones of a word that is written like another, by the words beside it; null for any other word.
  heteronym(tokens, place) {
    const {pairs, rules} = this.tables.heteronyms, word = tokens[place], one = word.endsWith('s') ? word.slice(0, -1) : word;
    if (word in pairs) {
      const [noun, verb, usually] = pairs[word], found = this.verb(tokens, place);
      return found ?? usually ? verb : noun;
    }
    if (one in pairs) {
      const [noun, verb] = pairs[one], before = this.before(tokens, place), after = next(tokens, place);
      const subject = ['he', 'she', 'it', 'who', 'which', 'that'].includes(before);
      return withS(subject || (this.sets.objects.has(after) && !this.sets.noun_after.has(before)) ? verb : noun);
    }
    if (word in rules) return READINGS[rules[word]](this, tokens, place).split(' ');
    if (!(word in this.near)) return null;
    const {after, before, there, otherwise} = this.near[word];
    return (after.has(next(tokens, place)) || before.has(tokens[place - 1] ?? '') ? there : otherwise).split(' ');
  }

  // The word before, adverbs left out.
  before(tokens, place) {
    let at = place - 1, word = tokens[at] ?? '';
    while (this.sets.adverbs.has(word) || (word.length > 4 && word.endsWith('ly'))) word = tokens[--at] ?? '';
    return word;
  }

  adjective(word) { return this.tables.heteronyms.adjective.some(ending => word.endsWith(ending)); }

  // Whether a word that can be both is a verb; null where its neighbours do not tell.
  verb(tokens, place) {
    const {verb_after, noun_after, be, objects} = this.sets, word = tokens[place], before = this.before(tokens, place), after = next(tokens, place);
    if (word === 'close' && ['to', 'by'].includes(after)) return false;
    if (word === 'content') return be.has(before) || ['feel', 'felt'].includes(before);
    if (verb_after.has(before) && !(before === 'to' && ['of', ',', '.'].includes(after))) return true;
    if (noun_after.has(before) || this.adjective(before) || be.has(before) || after === 'of') return false;
    return objects.has(after) && (before || !['present', 'subject'].includes(word)) ? true : null;
  }
}

const READINGS = {
  read(words, tokens, place) {
    const {sets} = words, before = words.before(tokens, place), plural = ['i', 'you', 'we', 'they'];
    let past = sets.be.has(before) || sets.have.has(before) || ['he', 'she', 'it', 'who', ...plural].includes(before);
    if (plural.includes(before) && !sets.have.has(tokens[place - 2] ?? ''))
      past = ['yesterday', 'ago', 'last', 'already', 'once'].some(one => tokens.includes(one));
    return past ? 'R EH1 D' : 'R IY1 D';
  },
  live(words, tokens, place) {
    const {noun_after, verb_after, places} = words.sets, before = words.before(tokens, place);
    const people = ['people', 'children', 'men', 'women', 'and'].includes(before) ||
      (before.endsWith('s') && !words.adjective(before) && !noun_after.has(before));
    return verb_after.has(before) || (people && places.has(next(tokens, place))) ? 'L IH1 V' : 'L AY1 V';
  },
  lives(words, tokens, place) {
    const before = words.before(tokens, place);
    const noun = words.sets.noun_after.has(before) || words.adjective(before) || !words.sets.places.has(next(tokens, place));
    return noun && !['he', 'she', 'it', 'who'].includes(before) ? 'L AY1 V Z' : 'L IH1 V Z';
  },
  lead(words, tokens, place) {
    const {of_lead, metals, verb_after} = words.sets, before = words.before(tokens, place);
    const beside = ['of', 'and', ',', 'sometimes', 'with'].includes(before) && tokens.slice(Math.max(0, place - 12), place + 12).some(one => metals.has(one));
    const metal = of_lead.has(next(tokens, place)) || ['contain', 'contains', 'containing', 'molten', 'unleaded'].includes(before) || beside;
    return metal && !verb_after.has(before) ? 'L EH1 D' : 'L IY1 D';
  },
  used(words, tokens, place) {
    const before = words.before(tokens, place);
    return next(tokens, place) === 'to' && !words.sets.be.has(before) ? 'Y UW1 S T' : 'Y UW1 Z D';
  },
};

const next = (tokens, place) => tokens[place + 1] ?? '';

function withS(phones) {
  const last = phones.at(-1);
  if (['S', 'Z', 'SH', 'ZH', 'CH', 'JH'].includes(last)) return [...phones, 'AH0', 'Z'];
  return [...phones, ['P', 'T', 'K', 'F', 'TH'].includes(last) ? 'S' : 'Z'];
}

// Of two [score, words]: by score, then by the words, as Python compares them.
function larger([score, words], [other, others]) {
  if (score !== other) return score > other;
  const at = words.findIndex((word, i) => word !== others[i]);
  return at >= 0 && (others[at] === undefined || words[at] > others[at]);
}

function product(matrix, vector, bias) {
  const found = new Float32Array(bias.length);
  for (let row = 0, at = 0; row < bias.length; row++) {
    let sum = 0;
    for (let i = 0; i < 256; i++) sum += matrix[at++] * vector[i];
    found[row] = sum + bias[row];
  }
  return found;
}
