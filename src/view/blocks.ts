/**
 * Blocks of a network: a tree of groups over its nodes, so that a page can show `layer1 … layer4` first and open what is asked for.
 *
 * Names come first: nodes that exporters name by module (`/layer1/layer1.0/conv1/Conv`), or else the names of their weights
 * (`layer1.0.conv1.weight`). A node without either joins the block of what it reads. Where names say nothing, repetition does: runs
 * in which the same sequence of operators stands several times (repeats.ts). Groups of one or two nodes are dissolved, groups that hold nothing
 * but one group merge with it, and a long row of alike blocks becomes one group of its own.
 */
import { findRepeats } from './repeats.ts';

export interface BlockNode {
  readonly name: string;
  readonly op: string;
  /** Nodes it reads, by index; all smaller than its own. */
  readonly producers: readonly number[];
  readonly weights: readonly string[];
}

export interface BlockTree {
  /** Parents before children; parent -1 at the top. */
  readonly groups: readonly { readonly label: string; readonly parent: number }[];
  /** The innermost group of each node; -1 at the top. */
  readonly groupOf: readonly number[];
}

/** A block of fewer nodes is no help. */
const SMALLEST = 3;
/** Direct nodes of one group from which on repetition is sought among them. */
const MANY = 48;
/** Alike blocks in a row from which on they share a group. */
const LONG_ROW = 9;

/** A block while the tree is made: its nodes and blocks in the order of their first node. */
interface Block {
  readonly label: string;
  readonly children: (Block | number)[];
}

export function findBlocks(nodes: readonly BlockNode[]): BlockTree {
  const root = treeOfPaths(pathsOf(nodes));
  return flatten(tidy(root, nodes), nodes.length);
}

/** The module that each node belongs to, outermost first. */
function pathsOf(nodes: readonly BlockNode[]): readonly (readonly string[])[] {
  const byName = nodes.map(({ name }) =>
    name.includes('/') ? name.split('/').filter(Boolean).slice(0, -1) : undefined,
  );
  const named = byName.filter((path) => path !== undefined && path.length > 0).length;
  if (named >= nodes.length * 0.3) return completePaths(byName, nodes, 0);
  const byWeight = nodes.map(({ weights }) => weightPath(weights));
  const weighted = byWeight.filter((path) => path !== undefined).length;
  return weighted >= nodes.length * 0.1 ? completePaths(byWeight, nodes, 1) : nodes.map(() => []);
}

/** `layer1.0.conv1.weight` lies in layer1, layer1.0, layer1.0.conv1. */
function weightPath(weights: readonly string[]): readonly string[] | undefined {
  const name = weights.find((weight) => /^[A-Za-z_][\w-]*(\.[\w-]+)+$/.test(weight));
  if (name === undefined) return undefined;
  const parts = name.split('.').slice(0, -1);
  return parts.map((_, i) => parts.slice(0, i + 1).join('.'));
}

/**
 * Nodes without a path get one: what reads only constants belongs to its first reader; the rest to the block of what they read,
 * as deep as their surroundings have in common and one more. `leaves` is how many parts of a known path name a single layer, not a block.
 */
function completePaths(
  known: readonly (readonly string[] | undefined)[],
  nodes: readonly BlockNode[],
  leaves: number,
): readonly (readonly string[])[] {
  const next: (readonly string[] | undefined)[] = new Array(nodes.length);
  for (let i = nodes.length - 1; i >= 0; i--) {
    const path = known[i] ?? next[i];
    for (const producer of nodes[i].producers) if (path) next[producer] = path;
  }
  const paths: (readonly string[])[] = [];
  for (const [i, { producers }] of nodes.entries()) {
    const read = Math.max(...producers);
    const last =
      producers.length === 0 ? undefined : paths[read].slice(0, known[read] ? -leaves || undefined : undefined);
    paths.push(known[i] ?? (last && next[i] ? sharedPath(last, next[i]) : (last ?? next[i] ?? [])));
  }
  return paths;
}

function sharedPath(path: readonly string[], other: readonly string[]): readonly string[] {
  let depth = 0;
  while (depth < path.length && path[depth] === other[depth]) depth++;
  return path.slice(0, depth + 1);
}

function treeOfPaths(paths: readonly (readonly string[])[]): Block {
  const root: Block = { label: '', children: [] };
  const blocks = new Map<string, Block>();
  for (const [i, path] of paths.entries()) {
    let block = root;
    let key = '';
    for (const part of path) {
      key += `/${part}`;
      let child = blocks.get(key);
      if (child === undefined) {
        child = { label: part, children: [] };
        blocks.set(key, child);
        block.children.push(child);
      }
      block = child;
    }
    block.children.push(i);
  }
  return root;
}

/** Dissolves, merges and finds rows, from the leaves up. */
function tidy(block: Block, nodes: readonly BlockNode[]): Block {
  let children = block.children.flatMap((child): (Block | number)[] => {
    if (typeof child === 'number') return [child];
    const tidied = tidy(child, nodes);
    const small = tidied.children.length < SMALLEST && tidied.children.every((inner) => typeof inner === 'number');
    return small ? tidied.children : [tidied];
  });
  if (children.filter((child) => typeof child === 'number').length > MANY) children = blocksOfRepeats(children, nodes);
  children = rows(children, nodes);
  const [only] = children;
  if (block.label !== '' && children.length === 1 && typeof only === 'object') {
    return {
      label: only.label.startsWith(block.label) ? only.label : `${block.label}/${only.label}`,
      children: only.children,
    };
  }
  return { label: block.label, children };
}

/** Nodes that repeat a sequence of operators become a block each time they do. */
function blocksOfRepeats(children: readonly (Block | number)[], nodes: readonly BlockNode[]): (Block | number)[] {
  const out: (Block | number)[] = [];
  let at = 0;
  for (const [run, { start, period, times }] of findRepeats(
    children.map((child) => signature(child, nodes)),
  ).entries()) {
    out.push(...children.slice(at, start));
    for (let i = 0; i < times; i++) {
      const from = start + i * period;
      out.push({ label: `block ${letters(run)}${i + 1}`, children: children.slice(from, from + period) });
    }
    at = start + times * period;
  }
  return [...out, ...children.slice(at)];
}

/** A … Z, AA …: what names the pattern, before the number of the time. */
const letters = (n: number): string =>
  (n < 26 ? '' : letters(Math.floor(n / 26) - 1)) + String.fromCharCode(65 + (n % 26));

/** Rows of alike blocks, one directly after the other, share a group where they are many. */
function rows(children: readonly (Block | number)[], nodes: readonly BlockNode[]): (Block | number)[] {
  const signatures = children.map((child) => (typeof child === 'number' ? '' : signature(child, nodes)));
  const out: (Block | number)[] = [];
  for (let at = 0; at < children.length; ) {
    let end = at + 1;
    while (signatures[at] !== '' && signatures[end] === signatures[at]) end++;
    const row = children.slice(at, end);
    if (row.length < LONG_ROW || row.length === children.length) out.push(...row);
    else out.push({ label: `${(row[0] as Block).label} … ${(row.at(-1) as Block).label}`, children: row });
    at = end;
  }
  return out;
}

/** Equal for blocks that hold the same operators in the same order. */
const signature = (child: Block | number, nodes: readonly BlockNode[]): string =>
  typeof child === 'number' ? nodes[child].op : `(${child.children.map((inner) => signature(inner, nodes)).join()})`;

function flatten(root: Block, count: number): BlockTree {
  const groups: { label: string; parent: number }[] = [];
  const groupOf = new Array<number>(count).fill(-1);
  const visit = (block: Block, group: number): void => {
    for (const child of block.children) {
      if (typeof child === 'number') groupOf[child] = group;
      else visit(child, groups.push({ label: child.label, parent: group }) - 1);
    }
  };
  visit(root, -1);
  return { groups, groupOf };
}
