/** Which blocks are open in a first picture. */
import type { PageModel } from './page.ts';

/** Boxes that a first picture may have. */
const FIRST_BOXES = 60;

/** Level by level all blocks of a level, as long as the picture stays small. A lone block around everything is always opened. */
export function firstOpen(model: PageModel, name: 'graph' | 'engine' | undefined): ReadonlySet<number> {
  const side = name && model[name];
  if (!side) return new Set();
  const children = new Map<number, number>();
  for (const { group } of side.items) children.set(group, (children.get(group) ?? 0) + 1);
  for (const { parent } of model.groups) children.set(parent, (children.get(parent) ?? 0) + 1);
  const open = new Set<number>();
  let level = model.groups.flatMap(({ parent }, g) => (parent < 0 ? [g] : []));
  let boxes = children.get(-1) ?? 0;
  while (level.length > 0) {
    const more = level.reduce((sum, g) => sum + (children.get(g) ?? 0), 0);
    if (boxes + more > FIRST_BOXES && !(level.length <= 2 && more <= 2 * FIRST_BOXES)) break;
    boxes += more;
    for (const g of level) open.add(g);
    const opened = new Set(level);
    level = model.groups.flatMap(({ parent }, g) => (opened.has(parent) ? [g] : []));
  }
  return open;
}
