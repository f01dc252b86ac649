/**
 * A side of the page laid out: what is drawn where, for a choice of open blocks. Closed blocks are one box; an open one is a frame
 * around its own drawing, laid out by itself, so opening a block costs what is in it and no more.
 *
 * An edge between boxes of different frames is drawn in pieces, one a frame it passes, that meet at ports on the frames' borders.
 */
import { type LayeredEdge, type LayeredNode, layeredLayout } from './layered.ts';
import type { PageGroup, PageSide } from './page.ts';

/** An item by its index; a group as -1 - index. */
export type BoxId = number;
export const groupBox = (group: number): BoxId => -1 - group;

export interface SceneBox {
  readonly id: BoxId;
  readonly x: number;
  readonly y: number;
  readonly width: number;
  readonly height: number;
  /** Of an open block: its border and title, around other boxes. */
  readonly frame: boolean;
}

export interface SceneEdge {
  /** The boxes at its ends; where the piece starts or ends at a frame's border, the frame. */
  readonly from: BoxId;
  readonly to: BoxId;
  /** Items whose value it carries. */
  readonly source: number;
  /** x and y in turn, from the start to the end. */
  readonly points: readonly number[];
  /** The type of the value, on the piece that leaves its source; else empty. */
  readonly label: string;
  /** True where it ends at a box, with an arrow. */
  readonly arrow: boolean;
}

export interface Scene {
  /** Frames before what they hold. */
  readonly boxes: readonly SceneBox[];
  readonly edges: readonly SceneEdge[];
  readonly width: number;
  readonly height: number;
}

const TITLE_HEIGHT = 26;
const PADDING = 16;
const ITEM_HEIGHT = 40;
const GROUP_HEIGHT = 48;
const CHAR = 7;

/** One level while it is laid out: x and y from its own corner. */
interface Level {
  readonly boxes: SceneBox[];
  readonly edges: SceneEdge[];
  readonly width: number;
  readonly height: number;
  /** Where values come in at the top and go out at the bottom, by source item. */
  readonly inPorts: ReadonlyMap<number, number>;
  readonly outPorts: ReadonlyMap<number, number>;
}

export function layoutScene(side: PageSide, groups: readonly PageGroup[], open: ReadonlySet<number>): Scene {
  const contents = contentsOf(side, groups);
  const level = layoutLevel(-1, { side, groups, open, ...contents });
  return { boxes: level.boxes, edges: level.edges, width: level.width, height: level.height };
}

interface Contents {
  /** Items directly in each group, and the groups in it that hold any; the top is group -1. */
  readonly items: ReadonlyMap<number, readonly number[]>;
  readonly inner: ReadonlyMap<number, readonly number[]>;
  /** Items in a group and below. */
  readonly count: ReadonlyMap<number, number>;
  /** Mean index of the items in a group and below. */
  readonly order: ReadonlyMap<number, number>;
  /** Edges that matter to each level: those whose ends lie in different children of it, or that pass its border. */
  readonly edges: ReadonlyMap<number, readonly number[]>;
  /** The groups around each group, innermost first, ending with -1. */
  readonly around: (group: number) => readonly number[];
}
type Context = Contents & {
  readonly side: PageSide;
  readonly groups: readonly PageGroup[];
  readonly open: ReadonlySet<number>;
};

function contentsOf({ items, edges }: PageSide, groups: readonly PageGroup[]): Contents {
  const chains = new Map<number, readonly number[]>([[-1, [-1]]]);
  const around = (group: number): readonly number[] => {
    const known = chains.get(group);
    if (known) return known;
    const chain = [group, ...around(groups[group].parent)];
    chains.set(group, chain);
    return chain;
  };
  const itemsIn = new Map<number, number[]>();
  const inner = new Map<number, number[]>();
  const [count, sum] = [new Map<number, number>(), new Map<number, number>()];
  const push = (map: Map<number, number[]>, key: number, value: number): void => {
    const list = map.get(key);
    if (list) list.push(value);
    else map.set(key, [value]);
  };
  for (const [i, { group }] of items.entries()) {
    push(itemsIn, group, i);
    for (const each of around(group)) {
      if (each >= 0 && !count.has(each)) push(inner, groups[each].parent, each);
      count.set(each, (count.get(each) ?? 0) + 1);
      sum.set(each, (sum.get(each) ?? 0) + i);
    }
  }
  const levelEdges = new Map<number, number[]>();
  for (const [e, { from, to }] of edges.entries()) {
    const [a, b] = [around(items[from].group), around(items[to].group)];
    const shared = new Set(a);
    const meet = b.find((group) => shared.has(group)) as number;
    for (const chain of [a, b]) for (const group of chain.slice(0, chain.indexOf(meet))) push(levelEdges, group, e);
    push(levelEdges, meet, e);
  }
  const order = new Map([...count].map(([group, n]) => [group, (sum.get(group) as number) / n]));
  return { items: itemsIn, inner, count, order, edges: levelEdges, around };
}

function layoutLevel(group: number, context: Context): Level {
  const { side, open } = context;
  const children = childrenOf(group, context);
  const levels = new Map(
    children.filter((id) => id < 0 && open.has(-1 - id)).map((id) => [id, layoutLevel(-1 - id, context)]),
  );
  const nodes: LayeredNode[] = children.map((id) => ({
    ...boxSize(id, levels.get(id), context),
    order: orderOf(id, context),
  }));
  const place = new Map(children.map((id, i) => [id, i]));
  const ports = { in: new Map<number, number>(), out: new Map<number, number>() };
  const port = (kind: 'in' | 'out', source: number): number => {
    const known = ports[kind].get(source);
    if (known !== undefined) return known;
    const pin = kind === 'in' ? 'first' : 'last';
    const at = nodes.push({ width: 8, height: 0, order: kind === 'in' ? -1 : side.items.length, pin }) - 1;
    ports[kind].set(source, at);
    return at;
  };

  const wires = new Map<string, LayeredEdge & { readonly source: number; readonly label: string }>();
  for (const e of context.edges.get(group) ?? []) {
    const { from, to, type } = side.edges[e];
    const [a, b] = [childOf(group, from, context), childOf(group, to, context)];
    const start = a === undefined ? port('in', from) : (place.get(a) as number);
    const end = b === undefined ? port('out', from) : (place.get(b) as number);
    // Two values from one closed block to another are one line; an open frame has a port for each.
    const key = `${start} ${end} ${a !== undefined && levels.has(a) ? from : ''}${b !== undefined && levels.has(b) ? ` ${from}` : ''}`;
    const isSource = a !== undefined && (a >= 0 || !levels.has(a));
    if (!wires.has(key)) wires.set(key, { from: start, to: end, source: from, label: isSource ? type : '' });
  }
  const lines = [...wires.values()];
  const { x, y, width, height, bends } = layeredLayout(nodes, lines);

  const titled = group >= 0;
  const [left, top] = titled ? [PADDING, TITLE_HEIGHT + PADDING / 2] : [0, 0];
  const boxes: SceneBox[] = [];
  const edges: SceneEdge[] = [];
  for (const [i, id] of children.entries()) {
    const level = levels.get(id);
    const at = { x: x[i] + left, y: y[i] + top };
    boxes.push({ id, ...at, width: nodes[i].width, height: nodes[i].height, frame: level !== undefined });
    if (!level) continue;
    for (const box of level.boxes) boxes.push({ ...box, x: box.x + at.x, y: box.y + at.y });
    for (const edge of level.edges) edges.push({ ...edge, points: moved(edge.points, at.x, at.y) });
  }
  const outerHeight = height + top + (titled ? PADDING / 2 : 0);
  const frame = groupBox(group);
  for (const [e, { from, to, source, label }] of lines.entries()) {
    const [a, b] = [children[from] as BoxId | undefined, children[to] as BoxId | undefined];
    const startX = portX(levels.get(a as BoxId)?.outPorts, source, nodes[from].width / 2) + x[from] + left;
    const endX = portX(levels.get(b as BoxId)?.inPorts, source, nodes[to].width / 2) + x[to] + left;
    const startY = a === undefined ? 0 : y[from] + nodes[from].height + top;
    const endY = b === undefined ? outerHeight : y[to] + top;
    edges.push({
      from: a ?? frame,
      to: b ?? frame,
      source,
      points: [startX, startY, ...moved(bends[e], left, top), endX, endY],
      label,
      arrow: b !== undefined && !levels.has(b),
    });
  }
  const portPlaces = (kind: 'in' | 'out') => new Map([...ports[kind]].map(([source, i]) => [source, x[i] + 4 + left]));
  return {
    boxes,
    edges,
    width: Math.max(width + 2 * left, titled ? titleWidth(group, context) : 0),
    height: outerHeight,
    inPorts: portPlaces('in'),
    outPorts: portPlaces('out'),
  };
}

const portX = (ports: ReadonlyMap<number, number> | undefined, source: number, otherwise: number): number =>
  ports?.get(source) ?? otherwise;

function moved(points: readonly number[], dx: number, dy: number): number[] {
  return points.map((value, i) => value + (i % 2 === 0 ? dx : dy));
}

const childrenOf = (group: number, { items, inner }: Context): readonly BoxId[] => [
  ...(items.get(group) ?? []),
  ...(inner.get(group) ?? []).map(groupBox),
];

/** The child of `group` that holds the item; undefined where it lies outside. */
function childOf(group: number, item: number, { side, around }: Context): BoxId | undefined {
  const chain = around(side.items[item].group);
  const at = chain.indexOf(group);
  if (at < 0) return undefined;
  return at === 0 ? item : groupBox(chain[at - 1]);
}

const orderOf = (id: BoxId, { order }: Context): number => (id >= 0 ? id : (order.get(-1 - id) as number));

function boxSize(
  id: BoxId,
  level: Level | undefined,
  { side, groups, count }: Context,
): { width: number; height: number } {
  if (level) return { width: level.width, height: level.height };
  if (id < 0) {
    const text = Math.max(groups[-1 - id].label.length, `${count.get(-1 - id)} nodes`.length);
    return { width: clamp(text * CHAR + 44, 110, 300), height: GROUP_HEIGHT };
  }
  const { title, name } = side.items[id];
  const text = Math.max(title.length * 7.6, Math.min(shortName(name).length, 34) * 6.2);
  return { width: clamp(text + 26, 84, 250), height: ITEM_HEIGHT };
}

const titleWidth = (group: number, { groups }: Context): number => groups[group].label.length * CHAR + 60;
const clamp = (x: number, least: number, most: number): number => Math.min(most, Math.max(least, x));

/** The end of a name that says most: without the modules around it and without the operator where it only repeats it. */
export function shortName(name: string): string {
  const parts = (name.split(' + ')[0] ?? '').split('/').filter(Boolean);
  return parts.slice(-2).join('/') + (name.includes(' + ') ? ` +${name.split(' + ').length - 1}` : '');
}
