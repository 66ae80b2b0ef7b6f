// Phones by name, and the phrases of a pack (docs/phrases.md).

export class Phones {
  constructor(symbols) { this.numbers = new Map(symbols.map((name, number) => [name, number])); }

  // Ids of names; all that are unknown, in one error.
  ids(names) {
    const unknown = names.filter(name => !this.numbers.has(name));
    if (unknown.length) throw new Error(`unknown phones: ${[...new Set(unknown)].slice(0, 8).join(' ')}`);
    return names.map(name => this.numbers.get(name));
  }
}

// The phones of a phrase with values of its slots.
export function filled(phrase, values) {
  const choice = (phrase.slots ?? []).map(({name, values: known}) => {
    const place = known.indexOf(values[name]);
    if (place < 0) throw new Error(`slot '${name}' cannot be '${values[name]}'`);
    return place;
  });
  const other = phrase.others?.[choice.join(' ')];
  const parts = other ?? phrase.pieces.map(one => ('slot' in one ? one.phones[choice[one.slot]] : one.phones)).join(' ');
  return parts.split(' ').filter(Boolean);
}

export function shown(phrase, values) {
  return phrase.text.replace(/\{(\w+)\}/g, (all, name) => values[name] ?? all);
}
