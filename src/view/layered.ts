/**
 * Layered drawing of one level of a graph, after Sugiyama: ranks by the longest path, places for long edges, order in a rank by
 * barycentres, coordinates by least squares that keep the order. Every step is linear or n log n, so thousands of nodes are no matter.
 *
 * Cycles (blocks that are not convex can make some) are cut: an edge against the order is drawn, but ranks nothing.
 */

export interface LayeredNode {
  readonly width: number;
  readonly height: number;
  /** Where in the network it stands, to break ties: the mean index of what it holds. */
  readonly order: number;
  /** Held in the first or the last rank. */
  readonly pin?: 'first' | 'last';
}

export interface LayeredEdge {
  readonly from: number;
  readonly to: number;
}

export interface LayeredResult {
  /** Left and top of each node. */
  readonly x: Float64Array;
  readonly y: Float64Array;
  readonly width: number;
  readonly height: number;
  /** Of each edge, the points between its ends, x and y in turn: where it passes the ranks between. */
  readonly bends: readonly (readonly number[])[];
}

const GAP_X = 26;
const GAP_Y = 40;
/** Before and after a rank where edges only pass. */
const GAP_PORTS = 18;
/** Room of an edge that passes a rank. */
const LANE = 14;
const ORDER_SWEEPS = 8;
const PLACE_SWEEPS = 9;

/** What stands in ranks: nodes, then places of edges that pass. */
interface Ranked {
  readonly rank: number[];
  readonly width: number[];
  readonly height: number[];
  readonly up: number[][];
  readonly down: number[][];
  readonly order: number[];
}

export function layeredLayout(nodes: readonly LayeredNode[], edges: readonly LayeredEdge[]): LayeredResult {
  const forward = forwardEdges(nodes, edges);
  const rank = ranksOf(nodes, edges, forward);
  const ranked: Ranked = {
    rank,
    width: nodes.map((node) => node.width),
    height: nodes.map((node) => node.height),
    up: nodes.map(() => []),
    down: nodes.map(() => []),
    order: nodes.map((node) => node.order),
  };
  const lanes = addLanes(ranked, edges, forward, nodes.length);
  const rows = orderRows(ranked);
  const x = placeX(ranked, rows);
  const { y, height } = placeY(ranked, rows);
  let [left, right] = [Number.POSITIVE_INFINITY, 0];
  for (const [i, node] of nodes.entries()) {
    left = Math.min(left, x[i] - node.width / 2);
    right = Math.max(right, x[i] + node.width / 2);
  }
  for (const lane of lanes.flat()) {
    left = Math.min(left, x[lane]);
    right = Math.max(right, x[lane]);
  }
  if (nodes.length === 0) left = 0;
  return {
    x: Float64Array.from(nodes, (node, i) => x[i] - node.width / 2 - left),
    y: Float64Array.from(nodes, (node, i) => y[i] - node.height / 2),
    width: right - left,
    height,
    bends: lanes.map((lane) => lane.flatMap((i) => [x[i] - left, y[i]])),
  };
}

/** True for edges that go with a topological order; where there is none, the node that stands first in the network goes first. */
function forwardEdges(nodes: readonly LayeredNode[], edges: readonly LayeredEdge[]): readonly boolean[] {
  const waits = new Int32Array(nodes.length);
  const readers: number[][] = nodes.map(() => []);
  for (const { from, to } of edges) {
    readers[from].push(to);
    waits[to]++;
  }
  const position = new Int32Array(nodes.length).fill(-1);
  const byOrder = nodes.map((_, i) => i).sort((a, b) => nodes[a].order - nodes[b].order || a - b);
  const ready = byOrder.filter((i) => waits[i] === 0);
  let [placed, forced] = [0, 0];
  while (placed < nodes.length) {
    while (ready.length === 0) {
      const node = byOrder[forced++];
      if (position[node] < 0) ready.push(node);
    }
    const node = ready.pop() as number;
    if (position[node] >= 0) continue;
    position[node] = placed++;
    for (const reader of readers[node]) if (--waits[reader] === 0 && position[reader] < 0) ready.push(reader);
  }
  return edges.map(({ from, to }) => position[from] < position[to]);
}

function ranksOf(nodes: readonly LayeredNode[], edges: readonly LayeredEdge[], forward: readonly boolean[]): number[] {
  const out: number[][] = nodes.map(() => []);
  const waits = new Int32Array(nodes.length);
  for (const [e, { from, to }] of edges.entries()) {
    if (!forward[e]) continue;
    out[from].push(to);
    waits[to]++;
  }
  const base: number = nodes.some(({ pin }) => pin === 'first') ? 1 : 0;
  const rank = nodes.map(({ pin }): number => (pin === 'first' ? 0 : base));
  const queue = nodes.map((_, i) => i).filter((i) => waits[i] === 0);
  for (const node of queue) {
    for (const to of out[node]) {
      rank[to] = Math.max(rank[to], rank[node] + 1);
      if (--waits[to] === 0) queue.push(to);
    }
  }
  // What nothing comes before stands just above its first reader.
  const read = new Uint8Array(nodes.length);
  for (const [e, { to }] of edges.entries()) if (forward[e]) read[to] = 1;
  for (const node of queue) {
    if (read[node] || nodes[node].pin || out[node].length === 0) continue;
    rank[node] = Math.max(rank[node], Math.min(...out[node].map((to) => rank[to])) - 1);
  }
  const last = Math.max(0, ...rank) + (nodes.some(({ pin }) => pin === 'last') ? 1 : 0);
  return rank.map((r, i) => (nodes[i].pin === 'last' ? last : r));
}

/**
 * Places in the ranks that long edges pass; edges of one node share them as far as they go together. When a graph would need many
 * more places than it has nodes, the longest edges go without.
 */
function addLanes(
  ranked: Ranked,
  edges: readonly LayeredEdge[],
  forward: readonly boolean[],
  count: number,
): readonly (readonly number[])[] {
  const { rank, up, down } = ranked;
  let budget = 4 * count + 2000;
  const chains = new Map<number, number[]>();
  const lanes: (readonly number[])[] = edges.map(() => []);
  const bySpan = edges.map((_, e) => e).filter((e) => forward[e]);
  bySpan.sort((a, b) => rank[edges[a].to] - rank[edges[a].from] - rank[edges[b].to] + rank[edges[b].from] || a - b);
  for (const e of bySpan) {
    const { from, to } = edges[e];
    const between = rank[to] - rank[from] - 1;
    const chain = chains.get(from) ?? [];
    if (between - chain.length > budget) continue;
    chains.set(from, chain);
    while (chain.length < between) {
      const previous = chain.at(-1) ?? from;
      const lane = rank.length;
      rank.push(rank[from] + chain.length + 1);
      ranked.width.push(LANE);
      ranked.height.push(0);
      ranked.order.push(ranked.order[from]);
      up.push([previous]);
      down.push([]);
      down[previous].push(lane);
      chain.push(lane);
      budget--;
    }
    const last = between > 0 ? chain[between - 1] : from;
    down[last].push(to);
    up[to].push(last);
    lanes[e] = chain.slice(0, between);
  }
  return lanes;
}

/** The order in each rank with the fewest crossings of those that sweeps by barycentre came by. */
function orderRows({ rank, up, down, order }: Ranked): number[][] {
  const rows: number[][] = Array.from({ length: Math.max(0, ...rank) + 1 }, () => []);
  for (const [i, r] of rank.entries()) rows[r].push(i);
  for (const row of rows) row.sort((a, b) => order[a] - order[b] || a - b);
  const at = new Float64Array(rank.length);
  const number = (row: readonly number[]): void => {
    for (const [i, node] of row.entries()) at[node] = i;
  };
  rows.forEach(number);
  if (rows.every((row) => row.length < 2)) return rows;
  let best = rows.map((row) => [...row]);
  let fewest = crossings(best, down, at);
  for (let sweep = 0; sweep < ORDER_SWEEPS && fewest > 0; sweep++) {
    const upward = sweep % 2 === 1;
    for (const row of upward ? rows.toReversed() : rows) {
      const key = new Map(row.map((node) => [node, barycentre(upward ? down[node] : up[node], at, at[node])]));
      row.sort((a, b) => (key.get(a) as number) - (key.get(b) as number) || at[a] - at[b]);
      number(row);
    }
    const crossed = crossings(rows, down, at);
    if (crossed >= fewest) continue;
    fewest = crossed;
    best = rows.map((row) => [...row]);
  }
  return best;
}

function barycentre(neighbours: readonly number[], at: Float64Array, otherwise: number): number {
  if (neighbours.length === 0) return otherwise;
  let sum = 0;
  for (const node of neighbours) sum += at[node];
  return sum / neighbours.length;
}

/** Pairs of edges between neighbouring ranks that cross, counted with a Fenwick tree. */
function crossings(
  rows: readonly (readonly number[])[],
  down: readonly (readonly number[])[],
  at: Float64Array,
): number {
  let total = 0;
  for (const [r, row] of rows.entries()) {
    const below = rows[r + 1]?.length ?? 0;
    const tree = new Int32Array(below + 1);
    let seen = 0;
    for (const node of row) {
      const ends = down[node].map((to) => at[to]).sort((a, b) => a - b);
      for (const end of ends) {
        let before = 0;
        for (let i = end + 1; i > 0; i -= i & -i) before += tree[i];
        total += seen - before;
      }
      for (const end of ends) {
        for (let i = end + 1; i <= below; i += i & -i) tree[i]++;
        seen++;
      }
    }
  }
  return total;
}

/** Centres: each row in turn moves towards its neighbours above, below, then both, as far as its order and gaps allow. */
function placeX({ width, up, down }: Ranked, rows: readonly (readonly number[])[]): Float64Array {
  const x = new Float64Array(width.length);
  for (const row of rows) {
    let left = 0;
    for (const node of row) {
      x[node] = left + width[node] / 2;
      left += width[node] + GAP_X;
    }
    const middle = (left - GAP_X) / 2;
    for (const node of row) x[node] -= middle;
  }
  for (let sweep = 0; sweep < PLACE_SWEEPS; sweep++) {
    const upward = sweep % 2 === 1;
    // The last sweep goes down alone: what follows one node stands straight below it.
    const both = sweep === PLACE_SWEEPS - 3 || sweep === PLACE_SWEEPS - 2;
    for (const row of upward ? rows.toReversed() : rows) {
      const neighbours = (node: number) =>
        both
          ? [...up[node], ...down[node]]
          : upward
            ? down[node].length
              ? down[node]
              : up[node]
            : up[node].length
              ? up[node]
              : down[node];
      const wanted = row.map((node) => barycentre(neighbours(node), x, x[node]));
      separate(row, wanted, width, x);
    }
  }
  return x;
}

/** Places a row at the least squared distance from where its nodes want to be, in order and apart (pool adjacent violators). */
function separate(row: readonly number[], wanted: readonly number[], width: readonly number[], x: Float64Array): void {
  // Shifted by the room that everything before takes, "apart" becomes "ascending".
  const shift: number[] = [];
  let room = 0;
  for (const [i, node] of row.entries()) {
    if (i > 0)
      room +=
        width[row[i - 1]] / 2 +
        GAP_X * (width[node] === LANE && width[row[i - 1]] === LANE ? 0.4 : 1) +
        width[node] / 2;
    shift.push(room);
  }
  const pools: { sum: number; weight: number; count: number }[] = [];
  for (const [i, node] of row.entries()) {
    // Long edges shall be straight, so their places pull harder than nodes.
    const weight = width[node] === LANE ? 4 : 1;
    let pool = { sum: (wanted[i] - shift[i]) * weight, weight, count: 1 };
    for (let last = pools.at(-1); last && last.sum / last.weight > pool.sum / pool.weight; last = pools.at(-1)) {
      pools.pop();
      pool = { sum: pool.sum + last.sum, weight: pool.weight + last.weight, count: pool.count + last.count };
    }
    pools.push(pool);
  }
  let i = 0;
  for (const { sum, weight, count } of pools) {
    for (const end = i + count; i < end; i++) x[row[i]] = sum / weight + shift[i];
  }
}

/** Middles of the ranks, from the top. */
function placeY({ height }: Ranked, rows: readonly (readonly number[])[]): { y: Float64Array; height: number } {
  const y = new Float64Array(height.length);
  let [top, gap] = [0, 0];
  for (const row of rows) {
    const tallest = row.reduce((most, node) => Math.max(most, height[node]), 0);
    if (tallest === 0 && top > 0) top -= gap - GAP_PORTS;
    for (const node of row) y[node] = top + tallest / 2;
    gap = tallest === 0 ? GAP_PORTS : GAP_Y;
    top += tallest + gap;
  }
  return { y, height: Math.max(0, top - gap) };
}
