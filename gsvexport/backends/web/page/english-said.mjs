// Written English → words and signs: gsvexport/text/en/normal.py, by its rules.

export class Said {
  // `tables` is rules.json; `pronounce` and `frequency` are those of a lexicon.
  constructor(tables, lexicon) {
    this.tables = tables, this.lexicon = lexicon;
    this.known = new Set(tables.characters.known);
    this.spelled = new Set(tables.capitals.spelled), this.asWords = new Set(tables.capitals.words);
    this.tokens = new RegExp(tables.tokens, 'g');
    this.rules = tables.rules.map(([pattern, put]) => [new RegExp(pattern, 'g'), this.putting(put)]);
  }

  // What String.replace puts in place of a match.
  putting(put) {
    if (typeof put === 'string') return put;
    const named = (table, name) => {
      if (!Object.hasOwn(table, name)) throw new Error(`english/rules.json asks for '${name}', which this page does not have`);
      return table[name];
    };
    if (put.call) {
      const call = named(MATCHES, put.call);
      return (...all) => call(this, all.slice(0, all.findIndex(one => typeof one === 'number')));
    }
    const parts = put.parts.map(([name, group]) => [named(GROUPS, name), group]);
    return (...all) => parts.reduce((found, [make, group], i) => found + make(this, all[group]) + put.form[i + 1], put.form[0]);
  }

  // The text in the characters that the rules know.
  plain(text) {
    const one = text.replaceAll('\r\n', '\n').replace(/r[ée]sum[é]/giu, 'resumee').replace(/(?<=[0-9])(?=[½⅓⅔¼¾⅛⅜⅝⅞])/g, ' ');
    return Array.from(one, char => this.plainOne(char)).join('');
  }

  plainOne(char) {
    const {plain} = this.tables.characters;
    if (this.known.has(char) || char in plain) return plain[char] ?? char;
    const parts = Array.from(char.normalize('NFKD')).filter(one => !/[\p{Mn}\p{Cf}\p{Cc}]/u.test(one));
    return parts.map(one => plain[one] ?? one).join('');
  }

  // Places (code points) of characters that can neither be read nor skipped.
  unreadable(text) {
    return Array.from(text).flatMap((char, place) => (Array.from(this.plainOne(char)).every(one => this.known.has(one)) ? [] : [place]));
  }

  // Words in lower case, "~x" for a letter said by its name, and signs.
  normalise(text) {
    let one = this.plain(text);
    if (!/[a-z]/.test(one) && /[A-Z]{2}.*[^A-Za-z'].*[A-Z]{2}/.test(one)) one = one.toLowerCase();
    for (const [pattern, put] of this.rules) one = one.replace(pattern, put);
    return this.merged((one.toLowerCase().match(this.tokens) ?? []).filter(token => /[^'-]/.test(token) || token in this.strength));
  }

  get strength() { return this.tables.sentences.strength; }

  merged(tokens) {
    const kept = [];
    for (const token of tokens) {
      const last = kept.at(-1);
      if (!(token in this.strength && last in this.strength)) kept.push(token);
      else if (this.strength[token] > this.strength[last]) kept[kept.length - 1] = token;
    }
    return kept;
  }

  spell(letters) { return Array.from(letters.toLowerCase()).filter(one => /[a-z]/.test(one)).map(one => this.tables.characters.letter + one).join(' '); }

  digits(number) { return Array.from(number, one => this.tables.numbers.small[one]).join(' '); }

  cardinal(number) {
    const {small, scales, longest} = this.tables.numbers;
    if (number.length > longest || (number[0] === '0' && number.length > 1)) return this.digits(number);
    let value = Number(number), found = '';
    for (let scale = scales.length - 1; scale >= 0; scale--) {
      const group = (value - (value % 1000 ** scale)) / 1000 ** scale;
      value %= 1000 ** scale;
      if (group) found += `${!found ? '' : group >= 100 || scale ? ', ' : ' '}${this.hundreds(group)} ${scales[scale]}`.trimEnd();
    }
    return found || small[0];
  }

  hundreds(value) {
    const {small, tens} = this.tables.numbers, words = value >= 100 ? [small[Math.floor(value / 100)], 'hundred'] : [];
    const rest = value % 100;
    if (rest >= 20) words.push(tens[Math.floor(rest / 10)] + (rest % 10 ? `-${small[rest % 10]}` : ''));
    else if (rest) words.push(small[rest]);
    return words.join(' ');
  }

  ordinal(number) {
    const words = this.cardinal(number), last = words.split(/[ -]/).at(-1);
    const regular = last.endsWith('y') ? `${last.slice(0, -1)}ieth` : `${last}th`;
    return words.slice(0, words.length - last.length) + (this.tables.numbers.ordinals[last] ?? regular);
  }

  fraction(above, below) {
    if (below === '2') return `${this.cardinal(above)} ${above === '1' ? 'half' : 'halves'}`;
    const part = below === '4' ? 'quarter' : this.ordinal(below);
    return `${this.cardinal(above)} ${above === '1' ? part : this.plural(part)}`;
  }

  year(number) {
    const century = number.slice(0, 2), rest = number.slice(2);
    if (century[1] === '0' && rest[0] === '0') return this.cardinal(number);
    if (rest === '00') return `${this.cardinal(century)} hundred`;
    return `${this.cardinal(century)} ${rest[0] === '0' ? `oh ${this.tables.numbers.small[rest[1]]}` : this.cardinal(rest)}`;
  }

  roman(numeral) {
    let value = 0, rest = numeral;
    for (const [letters, worth] of this.tables.numbers.roman) while (rest.startsWith(letters)) value += worth, rest = rest.slice(letters.length);
    return value && !rest ? String(value) : '';
  }

  plural(words) { return words.endsWith('y') ? `${words.slice(0, -1)}ies` : words + (/[xs]$/.test(words) ? 'es' : 's'); }

  number(number) {
    const [whole, part = ''] = number.split('.');
    return this.cardinal(whole.replaceAll(',', '') || '0') + (part ? ` point ${this.digits(part)}` : '');
  }

  several(unit) {
    const [, first, rest] = /^([^ ]*)(.*)$/.exec(unit);
    return this.tables.quantities.plurals[unit] ?? this.plural(first) + rest;
  }

  counted(number, unit) {
    const words = this.number(number);
    return ` ${words} ${words === 'one' ? unit : this.several(unit)} `;
  }

  unitOf(short) { return this.tables.quantities.letters[short] ?? this.tables.quantities.units[short.toLowerCase()]; }
  scaleOf(short) { return this.tables.quantities.scales[short.toLowerCase()] ?? short; }
  monthOf(number) { return this.tables.quantities.months[Number(number) - 1]; }
  dayOf(number) { return this.ordinal(String(Number(number))); }
  date(month, day, year) { return ` ${this.monthOf(month)} ${this.dayOf(day)}, ${this.year(year)} `; }

  loud(word) {
    const small = word.toLowerCase();
    if (!/[aeiouy]/.test(small) || !this.lexicon.pronounce(small)) return false;
    return word.length > 3 || (this.lexicon.frequency(small) ?? -99) > this.tables.capitals.loud;
  }
}

// What rules make of a group of a match, and of all of it, by the names of Python's functions.
const GROUPS = {
  str: (said, group) => group,
  spell: (said, group) => said.spell(group),
  sign: (said, group) => said.tables.signs[group],
  digits: (said, group) => said.digits(group),
  cardinal: (said, group) => said.cardinal(group),
  ordinal: (said, group) => said.ordinal(group),
  place: (said, group) => said.ordinal(group.replaceAll(',', '')),
  years: (said, group) => said.plural(said.year(group)),
  tens: (said, group) => said.plural(said.cardinal(group)),
  month: (said, group) => said.monthOf(group),
  day: (said, group) => said.dayOf(group),
  cents: (said, group) => said.counted(String(Number(group)), 'cent'),
  inches: (said, group) => said.counted(group, 'inch'),
  unit_name: (said, group) => said.tables.quantities.units[group],
  period: (said, group) => said.tables.quantities.periods[group],
  title: (said, group) => said.tables.abbreviations.titles[group].replace(/^./, one => one.toUpperCase()),
  short_month: (said, group) => said.tables.abbreviations.months[group],
  short_day: (said, group) => said.tables.abbreviations.days[group],
  before_number: (said, group) => said.tables.abbreviations.before_numbers[group.toLowerCase()],
  at_end: (said, group) => said.tables.abbreviations.ends[group.toLowerCase()],
  name: (said, group) => said.tables.capitals.names[group],
};

const MATCHES = {
  numbered(said, [all, word, numeral]) {
    const number = said.roman(numeral);
    return number ? `${word} ${said.cardinal(number)}` : all;
  },
  ruler(said, [all, word, numeral]) {
    const number = said.roman(numeral);
    return number ? `${word} the ${said.ordinal(number)}` : all;
  },
  iso_date: (said, [, year, month, day]) => said.date(month, day, year),
  american_date: (said, [, month, day, year]) => said.date(month, day, year),
  time(said, [, hour, minute, half]) {
    let words = minute[0] === '0' ? `oh ${said.digits(minute[1])}` : said.cardinal(minute);
    if (minute === '00') words = half ? '' : Number(hour) > 0 && Number(hour) < 13 ? "o'clock" : 'hundred';
    return ` ${said.cardinal(String(Number(hour)))} ${words} ${half ? said.spell(`${half}m`) : ''} `;
  },
  telephone: (said, [all]) => ` ${all.match(/\d+/g).map(part => said.digits(part)).join(', ')} `,
  money(said, [, minus, sign, whole, part, scale]) {
    const [unit, small] = said.tables.quantities.money[sign], found = minus ? ' minus ' : '';
    if (scale) return `${found} ${said.number(whole + (part ?? ''))} ${said.scaleOf(scale)} ${said.several(unit)} `;
    if (part?.length !== 3 || part === '.00') return found + said.counted(whole + (!part || part === '.00' ? '' : part), unit);
    const cents = said.counted(String(Number(part.slice(1))), small);
    return found + (whole === '0' ? cents : `${said.counted(whole, unit)} and ${cents}`);
  },
  money_range: (said, [, sign, low, high, scale]) =>
    ` ${said.number(low)} to ${said.number(high)}${scale ? ` ${said.scaleOf(scale)}` : ''} ${said.several(said.tables.quantities.money[sign][0])} `,
  fraction(said, [, whole, above, below]) {
    if (!whole && Number(above) >= Number(below)) return ` ${said.cardinal(above)} out of ${said.cardinal(below)} `;
    const words = said.fraction(above, below), cut = words.indexOf(' ');
    return whole ? ` ${said.cardinal(whole)} and ${above === '1' ? 'a' : words.slice(0, cut)} ${words.slice(cut + 1)} ` : ` ${words} `;
  },
  version: (said, [all]) => ` ${all.split('.').map(part => said.cardinal(part)).join(' point ')} `,
  unit_range: (said, [, low, high, unit]) => ` ${said.number(low)} to ${said.number(high)} ${said.several(said.unitOf(unit))} `,
  unit(said, [, number, hyphen, unit, dot]) {
    const name = said.unitOf(unit);
    return (hyphen === '-' ? ` ${said.number(number)} ${name} ` : said.counted(number, name)) + (dot ?? '');
  },
  alone: (said, [all]) => ` ${/^[12]\d{3}$/.test(all) && all !== '1000' ? said.year(all) : said.number(all)} `,
  capitals(said, [, word, ending = '']) {
    if (said.asWords.has(word) || (!said.spelled.has(word) && said.loud(word))) return word.toLowerCase() + ending;
    return ` ${said.spell(word)}${ending} `;
  },
};
