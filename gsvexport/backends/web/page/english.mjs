// English text → the phones of its sentences, as gsvexport/text/phonemise.py gives them, by the tables in english/.

import {bare, gunzip} from './english-tables.mjs';
import {Said} from './english-said.mjs';
import {Missing, Words} from './english-words.mjs';

export const TABLES = ['rules.json', 'dictionary.bin', 'words.bin', 'network.bin'];

export class English {
  // `load(name)` gives the bytes of a file of english/. All but the rules are asked for when a word needs them.
  static async open(load) {
    const english = new English();
    english.load = load;
    english.tables = bare(new TextDecoder().decode(await load('rules.json')));
    english.words = new Words(english.tables);
    english.said = new Said(english.tables, english.words);
    return english;
  }

  // The names of the phones of each sentence.
  async sentences(text) {
    for (;;) {
      try {
        return this.read(text).map(sentence => sentence.flat());
      } catch (error) {
        if (!(error instanceof Missing)) throw error;
        this.words.add(error.file, await gunzip(await this.load(error.file)));
      }
    }
  }

  // Sentences of words and signs, each the names of its phones.
  read(given) {
    const {limit, longest, shortest, shortest_run: run} = this.tables.sentences, length = Array.from(given).length;
    if (length > longest) throw new Error(`the text has ${length} characters; ${longest} are read at once`);
    if (!given.isWellFormed?.() && /\p{Surrogate}/u.test(given)) throw new Error('the text holds halves of characters');
    const text = trimmed(given.replace(/[!-~]{200}(?=[!-~])/g, '$& ').replaceAll('\r\n', '\n').normalize('NFC'), '\n ');
    this.check(text);
    const tokens = this.said.normalise(this.begun(text)), words = tokens.map((token, place) => (this.sign(token) ? [token] : this.words.at(tokens, place)));
    const counted = words.at(-1)?.[0] === ',' ? words.slice(0, -1) : words;
    if (counted.length && count(counted) < run) words.unshift([',']);
    if (!words.some(word => !this.sign(word[0]))) throw new Error('the text has no sound in it: write at least one word');
    return this.cutSentences(words).flatMap(one => [...this.cut(one, limit)]).map(piece => {
      const done = this.sign(piece.at(-1)[0]) ? piece : [...piece, ['.']];
      return count(done) < shortest && !this.sign(done[0][0]) ? [['.'], ...done] : done;
    });
  }

  sign(phone) { return phone in this.tables.sentences.strength; }

  check(text) {
    const chars = Array.from(text), places = new Map();
    for (const place of this.said.unreadable(text)) places.set(chars[place], [...(places.get(chars[place]) ?? []), place + 1]);
    if (!places.size) return;
    const shown = [...places].slice(0, 8).map(([char, at]) => `${JSON.stringify(char)} (U+${char.codePointAt(0).toString(16).toUpperCase().padStart(4, '0')}) at ${at.slice(0, 3).join(', ')}`);
    throw new Error(`characters that English does not have: ${shown.join('; ')}. Leave them out, or write them as words.`);
  }

  // With a full stop before a text whose first clause is very short.
  begun(text) {
    const {clause_ends: ends, shortest_clause: shortest} = this.tables.sentences, chars = Array.from(text);
    if (!chars.length || ends.includes(chars[0])) return text;
    const end = chars.findIndex(one => ends.includes(one)), first = chars.slice(0, end < 0 ? undefined : end).join('');
    return Array.from(first.replace(/^[\s\x1c-\x1f\x85]+|[\s\x1c-\x1f\x85]+$/g, '')).length >= shortest ? text : `。${text}`;
  }

  // Cut after signs that end a sentence; what is too short to be spoken alone goes with its neighbour.
  cutSentences(words) {
    const {ends} = this.tables.sentences, found = [[]], left = [];
    for (let place = words.length, sum = 0; place >= 0; place--) left[place] = sum, sum += words[place - 1]?.length ?? 0;
    words.forEach((word, place) => {
      const after = words[place + 1];
      found.at(-1).push(word);
      const last = ends.includes(word[0]) && (!after || !this.sign(after[0]));
      if (last && this.enough(count(found.at(-1))) && this.enough(left[place + 1])) found.push([]);
    });
    return found.filter(sentence => sentence.length);
  }

  enough(phones) { return !phones || phones >= this.tables.sentences.shortest; }

  // Pieces of at most `limit` phones, cut at a sign if possible.
  *cut(words, limit) {
    const room = limit - 2, rest = words.flatMap(word => parts(word, room));
    let start = 0, left = count(rest);
    while (left > limit - 1) {
      const ends = [];
      for (let place = 0, at = start; at < rest.length; at++) {
        place += rest[at].length;
        if (place > room) break;
        ends.push([place, this.sign(rest[at][0])]);
      }
      const sign = ends.findLastIndex(([end, isSign]) => isSign && end > Math.floor(room / 2)), stop = (sign < 0 ? ends.length - 1 : sign) + 1;
      yield rest.slice(start, start + stop);
      start += stop, left -= ends[stop - 1][0];
    }
    if (rest.slice(start).some(word => !this.sign(word[0]))) yield rest.slice(start);
  }
}

const count = words => words.reduce((sum, word) => sum + word.length, 0);

function parts(word, room) {
  if (word.length <= room) return [word];
  return Array.from({length: Math.ceil(word.length / room)}, (_, i) => word.slice(i * room, (i + 1) * room));
}

function trimmed(text, chars) {
  let start = 0, stop = text.length;
  while (start < stop && chars.includes(text[start])) start++;
  while (stop > start && chars.includes(text[stop - 1])) stop--;
  return text.slice(start, stop);
}
