/**
 * PTX of attention on tensor cores: one entry that computes tiles of rows of one head each.
 *
 *     q ─ld→ fragments in registers;   k, v ─cp.async→ shared memory, `stages` deep ─ldmatrix→ fragments
 *     turn: scores = q·kᵀ by mma.sync → what the form makes of them → greatest so far, weights, sums rescaled → sums += weights·v by mma.sync
 *     sums of warps and blocks that share a row's keys → shared memory of the block that finishes the row → epilogue, 8 columns a thread → out
 *
 * A fragment of scores has the layout of a fragment of weights (pairs of columns of rows g and g + 8), so weights go from registers to
 * registers. Online softmax after Milakov and Gimelshein (2018), its use here after Dao and others ("FlashAttention", 2022, and
 * "FlashAttention-2", 2023), keys split over blocks after Dao, Haziza, Massa and Sizov ("Flash-Decoding", 2023).
 */
import { leastOf } from '../../loop/attend.ts';
import type { Stmt } from '../../loop/ir.ts';
import { eachExpr, localKey } from '../cpu/walk.ts';
import {
  type AttendContext,
  acrossPairs,
  beginAttend,
  offsetOf,
  type Positions,
  positionsOf,
  powerOf,
  type RowStates,
} from './attend-context.ts';
import { prepareCopies } from './attend-copies.ts';
import { finishRows } from './attend-join.ts';
import type { AttendShape, AttendTile } from './attend-plan.ts';
import type { Reg } from './ptx.ts';
import { bufferArgs, type EmittedKernel, type KernelSite } from './template.ts';

export function emitAttend(site: KernelSite, shape: AttendShape, tile: AttendTile): EmittedKernel {
  const g = beginAttend(site, shape, tile);
  const { k, layout } = g;
  // Nobody may write to a block of the cluster that has not begun.
  if (tile.split > 1) k.do('barrier.cluster.arrive.relaxed.aligned');
  finishRows(g, attendToKeys(g));
  const tiles = Math.ceil(shape.queries / layout.rows);
  const launch = {
    code: k,
    grid: [tiles * tile.split, shape.heads, 1] as const,
    block: [g.threads, 1, 1] as const,
    sharedBytes: layout.bytes,
    args: bufferArgs(site.kernel),
  };
  const cluster = tile.split > 1 && { cluster: [tile.split, 1, 1] as const };
  return { launches: [{ ...launch, ...cluster }], scratchBytes: 0 };
}

function attendToKeys(g: AttendContext): RowStates[] {
  const { k, layout, shape, tile } = g;
  const copies = prepareCopies(g);
  const { ahead, turns, wholeTurns, tailKeys, buffers, stageBytes } = layout;
  const apart = ahead >= turns;
  for (let i = 0; i < ahead; i++) {
    copies.keys(i * stageBytes);
    if (apart) k.do('cp.async.commit_group');
    copies.values(i * stageBytes);
    k.do('cp.async.commit_group');
    if (i + 1 < turns) copies.advance();
  }
  const rows = Array.from({ length: tile.rm }, (_, m) => [0, 8].map((half) => rowPositions(g, 16 * m + half)));
  const q = rows.map((pair) => loadQueries(g, pair));
  const states = rows.map(() => ({
    sums: Array.from({ length: Math.ceil(shape.value.extent / 16) * 2 }, () => zeros(g, 4)),
    most: [0, 1].map(() => moved(g, leastOf('f32'))),
    total: zeros(g, 2),
  }));
  const scores = scoresOf(g, rows);
  const keyBase = k.reg('b32');
  k.move(keyBase, k.op('mad.lo.u32', g.warpKey, tile.keys, k.op('mul.lo.u32', g.rank, layout.stageKeys)));
  const [from, to] = [k.reg('b32'), k.reg('b32')];
  k.move(from, 0);
  k.move(to, (buffers - 1) * stageBytes);
  const turnOver = (x: Reg): void => {
    k.to(x, 'add.s32', x, stageBytes);
    k.when(k.op('setp.eq.s32', x, buffers * stageBytes), () => k.move(x, 0));
  };
  /** Over so many keys a warp; behind the last one there may be none. `next`: whether there may be a stage to ask for. */
  const turn = (keys: number, whole: boolean, next?: Reg): void => {
    k.do('cp.async.wait_group', apart ? 2 * ahead - 1 : ahead - 1);
    k.do('bar.sync', 0);
    if (!apart) {
      if (next)
        k.if(k.op('setp.lt.s32', next, turns - ahead), () => {
          copies.keys(to);
          copies.values(to);
          copies.advance();
        });
      k.do('cp.async.commit_group');
    }
    const base = k.op('mov.b32', keyBase);
    const dots = multiplyKeys(g, q, from, keys);
    const weights = dots.map((own, m) => weigh(g, states[m], scores(m, own, base, whole)));
    if (apart) {
      k.do('cp.async.commit_group');
      k.do('cp.async.commit_group');
      k.do('cp.async.wait_group', 2 * ahead);
      k.do('bar.sync', 0);
    }
    multiplyValues(g, weights, from, states);
    k.to(keyBase, 'add.s32', keyBase, layout.stageKeys * tile.split);
    turnOver(from);
    turnOver(to);
  };
  k.loop(0, wholeTurns, 1, (i) => turn(tile.keys, true, i));
  if (wholeTurns < turns) k.scope(() => turn(tailKeys, false));
  return states;
}

const moved = ({ k }: AttendContext, value: number): Reg => {
  const reg = k.reg('f32');
  k.move(reg, value);
  return reg;
};
const zeros = (g: AttendContext, n: number): Reg[] => Array.from({ length: n }, () => moved(g, 0));

/** Where the thread's first row, or one `below` it, lies along the query axes; a row behind the last one is the last one. */
function rowPositions({ k, shape, layout, tile, rowTile, warpRow, group }: AttendContext, below: number): Positions {
  const inWarp = k.op('mad.lo.u32', warpRow, 16 * tile.rm, k.op('add.s32', group, below));
  const row = k.op('mad.lo.u32', rowTile, layout.rows, inWarp);
  const inside = shape.queries % layout.rows === 0 ? row : k.op('min.u32', row, shape.queries - 1);
  return positionsOf(k, inside, shape.rows);
}

/** Fragments of q, 16 of the inner dim each. */
function loadQueries(g: AttendContext, rows: readonly Positions[]): Reg[][] {
  const { k, shape } = g;
  const base = offsetOf(k, shape.q, g.batch);
  const pointers = rows.map((row) => {
    const at = offsetOf(k, { ...shape.q, constant: 0 }, row);
    const first = k.op('mad.lo.s32', g.pair, 2, k.op('add.s32', at, base));
    return k.op('mad.wide.s32', first, 2, g.pointers.get(shape.q.buffer) as Reg);
  });
  return Array.from({ length: Math.ceil(shape.inner / 16) }, (_, c) =>
    [0, 8].flatMap((half) =>
      pointers.map((pointer) => {
        const at = c * 16 + half;
        return at < shape.inner ? k.load('global.nc', 'b32', k.at(pointer, at * 2))[0] : k.op('mov.b32', 0);
      }),
    ),
  );
}

const mma = ({ shape: { dtype } }: AttendContext): string =>
  `mma.sync.aligned.m16n8k16.row.col.f32.${dtype}.${dtype}.f32`;

/** Products of the warp's rows with so many of its keys of the stage: [tile of 16 rows][tile of 8 keys][4]. */
function multiplyKeys(g: AttendContext, q: readonly (readonly (readonly Reg[])[])[], stage: Reg, keys: number) {
  const { k, lane, tile, layout } = g;
  // Lane bit 4: keys 8 to 15, bit 3: the upper half of 16 elements.
  const key = k.op('mad.lo.u32', k.op('shr.u32', lane, 4), 8, k.op('and.b32', lane, 7));
  const half = k.op('and.b32', k.op('shr.u32', lane, 3), 1);
  const row = k.op('mad.lo.u32', g.warpKey, tile.keys, key);
  const place = k.op('mad.lo.u32', row, layout.keyPitch, k.op('mad.lo.u32', half, 16, g.shared));
  const at = k.op('add.s32', place, stage);
  const dots = q.map(() => Array.from({ length: keys / 8 }, () => zeros(g, 4)));
  for (let c = 0; c < q[0].length; c++) {
    for (let j = 0; j < keys / 16; j++) {
      const b = k.ops('ldmatrix.sync.aligned.m8n8.x4.shared.b16', k.at(at, j * 16 * layout.keyPitch + c * 32));
      for (const [m, a] of q.entries()) {
        for (const n of [0, 1]) k.to(dots[m][2 * j + n], mma(g), a[c], b.slice(2 * n, 2 * n + 2), dots[m][2 * j + n]);
      }
    }
  }
  return dots;
}

/** sums += weights · values of the stage; weights as fragments: [tile of 16 rows][16 keys][4]. */
function multiplyValues(
  g: AttendContext,
  weights: readonly (readonly (readonly Reg[])[])[],
  stage: Reg,
  states: readonly RowStates[],
): void {
  const { k, lane, tile, layout } = g;
  // Lane bit 3: keys 8 to 15, bit 4: values 8 to 15; each 8 × 8 is transposed on the way.
  const key = k.op('and.b32', lane, 15);
  const row = k.op('mad.lo.u32', g.warpKey, tile.keys, key);
  const half = k.op('mad.lo.u32', k.op('shr.u32', lane, 4), 16, g.shared);
  const at = k.op('add.s32', k.op('mad.lo.u32', row, layout.valuePitch, half), stage);
  for (let j = 0; j < weights[0].length; j++) {
    for (let n = 0; n < states[0].sums.length; n += 2) {
      const place = k.at(at, layout.valuesAt + j * 16 * layout.valuePitch + n * 16);
      const b = k.ops('ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16', place);
      for (const [m, { sums }] of states.entries()) {
        for (const i of [0, 1]) k.to(sums[n + i], mma(g), weights[m][j], b.slice(2 * i, 2 * i + 2), sums[n + i]);
      }
    }
  }
}

/**
 * The form's scores in the place of a tile's products, -inf behind the last key; where the score is the product times a number, that is left
 * to the weights. `base` is the warp's first key of the turn, in which all keys exist where `whole`.
 */
function scoresOf(g: AttendContext, rows: readonly (readonly Positions[])[]) {
  const { k, exprs, shape } = g;
  const { score } = shape.form;
  let loads = false;
  eachExpr(score, (x) => {
    if (x.kind === 'load') loads = true;
  });
  // A pair of keys is two lanes where both are there or neither is.
  const lanes = shape.keys % 2 === 0 ? 2 : 1;
  const bindRow = (row: Positions): void => {
    for (const { axis, at } of row) exprs.bindAxis(axis, { reg: at, offset: 0 });
  };
  for (const row of shape.scale === undefined ? rows.flat() : []) {
    bindRow(row);
    exprs.prepare(score, [shape.key.name, localKey('dot')]);
  }
  const evaluate = (dots: readonly Reg[], key: number, reg: Reg): readonly Reg[] => {
    exprs.bindAxis(shape.key, lanes === 2 ? { reg, scale: 2, offset: key, lanes: true } : { reg, offset: key });
    exprs.bindLocal('dot', dots);
    let value = dots;
    for (const s of score as readonly Extract<Stmt, { kind: 'let' }>[]) {
      value = exprs.value(s.value);
      exprs.bindLocal(s.local, value);
    }
    return dots.map((_, i) => value[value.length === 1 ? 0 : i]);
  };
  return (m: number, products: readonly (readonly Reg[])[], base: Reg, whole: boolean): Reg[][] => {
    const keyAt = k.op('mad.lo.u32', g.pair, 2, base);
    const half = k.op('shr.u32', keyAt, 1);
    const out = products.map(() => [] as Reg[]);
    for (const [h, row] of rows[m].entries()) {
      bindRow(row);
      for (const [j, dots] of products.entries()) {
        const pair = [dots[2 * h], dots[2 * h + 1]].map((x) => k.op('mov.f32', x));
        const units = lanes === 2 ? [pair] : pair.map((x) => [x]);
        for (const [e, unit] of units.entries()) {
          const key = j * 8 + e;
          const valid = whole ? undefined : k.op('setp.lt.s32', keyAt, shape.keys - key);
          const run = (): readonly Reg[] =>
            shape.scale === undefined
              ? exprs.withLanes(unit.length, () => evaluate(unit, key, lanes === 2 ? half : keyAt))
              : unit;
          const value = valid && loads ? exprs.masked(valid, run) : run();
          const hidden = Number.NEGATIVE_INFINITY;
          out[j].push(...value.map((x) => (valid ? k.op('selp.f32', x, hidden, valid) : x)));
        }
      }
    }
    return out;
  };
}

/** Weights by the greatest score so far, as fragments of 16 keys; rescales what was summed before. */
function weigh(g: AttendContext, { sums, most, total }: RowStates, scores: readonly (readonly Reg[])[]): Reg[][] {
  const { k, shape } = g;
  const { scale } = shape;
  const factor = scale === undefined ? undefined : scale * Math.LOG2E;
  const weights = [0, 1].map((h) => {
    const own = scores.flatMap((s) => [s[2 * h], s[2 * h + 1]]);
    const next = acrossPairs(
      g,
      treeOf(own, (a, b) => k.op('max.f32', a, b)),
      'max.f32',
    );
    const greatest = k.op('max.f32', factor === undefined ? next : k.op('mul.f32', next, factor), most[h]);
    const keep = powerOf(g, most[h], greatest);
    k.move(most[h], greatest);
    for (const s of sums) for (const i of [2 * h, 2 * h + 1]) k.to(s[i], 'mul.f32', s[i], keep);
    const below = factor === undefined ? undefined : k.op('neg.f32', greatest);
    const row = own.map((x) =>
      below && factor !== undefined
        ? k.op('ex2.approx.ftz.f32', k.op('fma.rn.f32', x, factor, below))
        : powerOf(g, x, greatest),
    );
    k.to(
      total[h],
      'fma.rn.f32',
      total[h],
      keep,
      treeOf(row, (a, b) => k.op('add.f32', a, b)),
    );
    return row;
  });
  const packed = weights.map((row) =>
    Array.from({ length: row.length / 2 }, (_, j) =>
      k.op(`cvt.rn.${shape.dtype as 'f16' | 'bf16'}x2.f32`, row[2 * j + 1], row[2 * j]),
    ),
  );
  return Array.from({ length: scores.length / 2 }, (_, j) => [
    packed[0][2 * j],
    packed[1][2 * j],
    packed[0][2 * j + 1],
    packed[1][2 * j + 1],
  ]);
}

function treeOf(xs: readonly Reg[], join: (a: Reg, b: Reg) => Reg): Reg {
  if (xs.length === 1) return xs[0];
  return treeOf(
    Array.from({ length: Math.ceil(xs.length / 2) }, (_, i) =>
      2 * i + 1 < xs.length ? join(xs[2 * i], xs[2 * i + 1]) : xs[2 * i],
    ),
    join,
  );
}
