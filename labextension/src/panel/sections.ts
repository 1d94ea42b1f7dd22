/** The order and the folding of the panel's sections, as the user arranged them. Pure. */

/** Sections by the names that settings use. */
export const SECTIONS = ['runtime', 'use', 'resize', 'work', 'cells'] as const;

export type Section = (typeof SECTIONS)[number];

/** Every section once: those that are named first, in that order, then the others in the usual one. */
export function ordered(named: readonly string[]): Section[] {
  const known = named.filter((name): name is Section => SECTIONS.some(section => section === name));
  return [...new Set([...known, ...SECTIONS])];
}

/** The same with one section a place earlier (`-1`) or later (`1`); at the ends nothing changes. */
export function moved(sections: readonly Section[], section: Section, by: -1 | 1): Section[] {
  const from = sections.indexOf(section);
  const other = sections[from + by];
  return other === undefined
    ? [...sections]
    : sections.map(each => (each === section ? other : each === other ? section : each));
}
