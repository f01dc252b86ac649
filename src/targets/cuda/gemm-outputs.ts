/**
 * From sums in registers to the outputs: through shared memory, so that a thread gets 8 columns of a row and moves 16 bytes at a time.
 *
 *     sums of a warp → shared memory of the block that finishes the row: [blocks of the cluster × groups of warps][row][column]
 *     one barrier → a thread adds up 8 columns over blocks and groups → epilogue
 *
 * Blocks of a cluster write into each other's shared memory, so that after the barrier nobody reads another's and blocks may end.
 * What the epilogue loads does not depend on the sums: it is asked for before the products, as far as registers allow.
 */
import type { Axis } from '../../loop/ir.ts';
import type { GemmContext } from './gemm-context.ts';
import { Epilogue, epilogueIndices, type SharedLoads } from './gemm-epilogue.ts';
import { rowIsInside } from './gemm-limits.ts';
import { mergeAxes } from './gemm-plan.ts';
import { type Sums, warpPlace } from './gemm-products.ts';
import { MOST_ROWS_AHEAD, sumPitch, sumsAt } from './gemm-tiles.ts';
import { hasLimit } from './limits.ts';
import { digitsOf, linearSum } from './ptx-text.ts';

/** 8 columns of a row that a thread finishes. */
interface Turn {
  /** Row of the output. */
  readonly index: string;
  /** A predicate: the row lies before all limits. Undefined where there are none. */
  readonly inside: string | undefined;
  /** Bytes from the first turn's sums. */
  readonly offset: number;
  /** One of all 8 columns, or one of each. */
  readonly epilogues: readonly Epilogue[];
}

interface OutputPlan {
  readonly row: string;
  readonly column: string;
  /** False for threads without outputs; undefined where all have some. */
  readonly active: string | undefined;
  /** The first column, or each, where their number is no multiple of 8. */
  readonly columns: readonly string[];
  readonly turns: readonly Turn[];
}

/** Plans the outputs of a thread and asks for what they need; what it returns finishes them. */
export function prepareOutputs(g: GemmContext): (sums: Sums) => void {
  const plan = planOutputs(g);
  return (sums) => {
    joinSums(g, sums);
    writeOutputs(g, plan);
  };
}

function planOutputs(g: GemmContext): OutputPlan {
  const { w } = g;
  const { n } = g.shape;
  const { bm, bn, split } = g.tile;
  const perRow = bn / 8;
  const rows = bm / split;
  const rowStep = g.threads / perRow;
  const column = w.op('b32', 'mul.lo.u32', w.op('b32', 'and.b32', g.tid, perRow - 1), 8);
  const row = w.op('b32', 'shr.u32', g.tid, Math.log2(perRow));
  const n0 = linearSum(w, [[column, 1], ...(g.columnTile ? [[g.columnTile, bn] as const] : [])], 0);
  const has = [
    ...(rowStep > rows ? [w.op('pred', 'setp.lt.u32', row, rows)] : []),
    ...(n % bn === 0 ? [] : [w.op('pred', 'setp.lt.u32', n0, n)]),
  ];
  const active = has.length === 2 ? w.op('pred', 'and.pred', has[0], has[1]) : has[0];
  const own = split === 1 ? [] : [[g.rank, rows] as const];
  const m0 = linearSum(w, [[row, 1] as const, [g.rowTile, bm] as const, ...own], 0);
  const count = Math.max(1, rows / rowStep);
  const width = n % 8 === 0 ? 8 : 1;
  const columns = Array.from({ length: 8 / width }, (_, j) => linearSum(w, [[n0, 1]], j));
  const loaded: SharedLoads = new Map();
  const turns = Array.from({ length: count }, (_, i): Turn => {
    const index = linearSum(w, [[m0, 1]], i * rowStep);
    const epilogues = columns.map((at) => epilogueAt(g, index, at, width, loaded));
    const extents = g.shape.plan.m.map((x) => x.extent);
    const inside = hasLimit(g.shape.plan.m)
      ? rowIsInside(w, g.ends, g.shape.plan, digitsOf(w, index, extents))
      : undefined;
    return { index, inside, offset: i * rowStep * sumPitch(g.tile), epilogues };
  });
  const plan = { row, column, active, columns, turns };
  const rowsAhead = count <= (width === 8 ? MOST_ROWS_AHEAD : 1);
  eachTurn(g, plan, (turn) =>
    eachColumn(g, plan, (j) => turn.epilogues[j].preload((movesWithRow) => !movesWithRow || rowsAhead)),
  );
  return plan;
}

/** Runs `body` for each turn that has a row, where the thread has columns. */
function eachTurn(g: GemmContext, { active, turns }: OutputPlan, body: (turn: Turn) => void): void {
  const { w } = g;
  const done = w.newLabel();
  if (active) w.line(`@!${active} bra ${done}`);
  for (const turn of turns) {
    if (g.shape.m % g.tile.bm !== 0) w.line(`@${w.op('pred', 'setp.ge.u32', turn.index, g.shape.m)} bra ${done}`);
    body(turn);
  }
  w.label(done);
}

/** Runs `body` for all columns at once, or for each that exists. */
function eachColumn(g: GemmContext, { columns }: OutputPlan, body: (column: number) => void): void {
  const { w } = g;
  const done = w.newLabel();
  for (const [j, at] of columns.entries()) {
    if (columns.length > 1) w.line(`@${w.op('pred', 'setp.ge.u32', at, g.shape.n)} bra ${done}`);
    body(j);
  }
  w.label(done);
}

function epilogueAt(g: GemmContext, index: string, column: string, width: number, loaded: SharedLoads): Epilogue {
  const { plan } = g.shape;
  const axis = plan.form.axes.find((x) => x.role === 'n' && x.extent > 1);
  const rows = outputDigits(g, index);
  const digits = axis ? new Map([...rows, [axis.name, column]]) : rows;
  const place = { digits, column: axis, width, pointers: g.pointers, aligned: g.aligned };
  return new Epilogue(g.w, g.kernel, plan.form.epilogue, place, loaded);
}

/** The form's own m and batch axes, of which the plan may have merged others than the epilogue can. */
export function outputDigits(g: GemmContext, index: string): Map<string, string> {
  const { plan } = g.shape;
  const own: readonly Axis[] = plan.form.axes.filter((x) => x.role === 'm' && x.extent > 1);
  const merged = mergeAxes(own, epilogueIndices(plan.form.epilogue));
  const regs = digitsOf(
    g.w,
    index,
    merged.map((x) => x.extent),
  );
  return new Map([...merged.map((x, i) => [x.name, regs[i]] as const), ...g.batch]);
}

/** Sums to the shared memory of the block that finishes their rows. */
function joinSums(g: GemmContext, sums: Sums): void {
  const { w } = g;
  const { bm, bn, wm, wn, wk, split } = g.tile;
  const pitch = sumPitch(g.tile);
  const rows = bm / split;
  const { row, column, group } = warpPlace(g);
  const t = w.op('b32', 'and.b32', g.lane, 3);
  const firstRow = linearSum(w, [[w.op('b32', 'shr.u32', g.lane, 2), 1] as const, ...term(row, bm / wm)], 0);
  const place = [[g.shared, 1] as const, [t, 8] as const, ...term(column, (bn / wn) * 4)];
  const store = (at: string, offset: number, a: string, b: string): void =>
    w.line(`st.shared${split > 1 ? '::cluster' : ''}.v2.f32 [${at}+${offset}], {${a}, ${b}}`);
  if (split === 1) {
    w.line('cp.async.wait_group 0');
    w.line('bar.sync 0');
    const at = linearSum(w, [...place, [firstRow, pitch] as const, ...term(group, bm * pitch)], 0);
    for (const [i, half, s] of halves(sums)) {
      for (const [j, [a, b]] of s.entries()) store(at, (i * 16 + half * 8) * pitch + j * 32, a, b);
    }
    w.line('bar.sync 0');
    return;
  }
  // This block's sums are the part rank·wk + group of whichever block finishes the row.
  const part = linearSum(w, [[g.rank, wk] as const, ...term(group, 1)], 0);
  const base = linearSum(w, [...place, [part, rows * pitch] as const], sumsAt(g.tile));
  w.line('barrier.cluster.wait.acquire');
  for (const [i, half, s] of halves(sums)) {
    const r = linearSum(w, [[firstRow, 1]], i * 16 + half * 8);
    const owner = w.op('b32', 'shr.u32', r, Math.log2(rows));
    const local = linearSum(w, [[base, 1] as const, [w.op('b32', 'and.b32', r, rows - 1), pitch] as const], 0);
    const at = w.op('b32', 'mapa.shared::cluster.u32', local, owner);
    for (const [j, [a, b]] of s.entries()) store(at, j * 32, a, b);
  }
  w.line('barrier.cluster.arrive.release');
  w.line('barrier.cluster.wait.acquire');
}

const term = (reg: string, coef: number): (readonly [string, number])[] => (reg ? [[reg, coef]] : []);

/** Rows g and g + 8 of each m tile: its number, which half, and the pairs of its n tiles. */
const halves = (sums: Sums): (readonly [number, 0 | 1, readonly (readonly [string, string])[]])[] =>
  sums.flatMap((row, i) => [
    [i, 0, row.map((s) => [s[0], s[1]] as const)] as const,
    [i, 1, row.map((s) => [s[2], s[3]] as const)] as const,
  ]);

function writeOutputs(g: GemmContext, plan: OutputPlan): void {
  const { w } = g;
  const { split, wk, bm } = g.tile;
  const pitch = sumPitch(g.tile);
  const source = linearSum(
    w,
    [[g.shared, 1] as const, [plan.row, pitch] as const, [plan.column, 4] as const],
    sumsAt(g.tile),
  );
  const parts = Array.from({ length: split * wk }, (_, i) => (i * bm * pitch) / split);
  eachTurn(g, plan, ({ inside, offset, epilogues }) => {
    const next = w.newLabel();
    if (inside) w.line(`@!${inside} bra ${next}`);
    const sums = parts
      .map((part) => load8(g, source, part + offset))
      .reduce((x, y) => x.map((v, i) => w.op('f32', 'add.f32', v, y[i])));
    eachColumn(g, plan, (j) => epilogues[j].run(epilogues.length === 1 ? sums : [sums[j]]));
    if (inside) w.label(next);
  });
}

function load8({ w }: GemmContext, source: string, offset: number): string[] {
  return [0, 16].flatMap((half) => {
    const v = w.regs('f32', 4);
    w.line(`ld.shared.v4.f32 {${v.join(', ')}}, [${source}+${offset + half}]`);
    return v;
  });
}
