/**
 * The end of an attend: what warps, and blocks of a cluster, made of their parts of the keys becomes one row each, divided by its sum of
 * weights, and goes through the epilogue, 8 columns a thread.
 *
 *     part p: sums scaled to its own greatest score m_p;   row = Σ e^(m_p - m) · sums_p / Σ e^(m_p - m) · total_p   with m = max m_p
 *
 * Blocks write into the shared memory of the block that finishes a row, so that nobody reads another's behind the one barrier.
 */
import { type AttendContext, acrossPairs, positionsOf, powerOf, type RowStates } from './attend-context.ts';
import { CHUNK } from './attend-plan.ts';
import { divideBy, remainderBy } from './divide.ts';
import { BodyEmitter } from './emit-body.ts';
import type { Reg } from './ptx.ts';

export function finishRows(g: AttendContext, states: readonly RowStates[]): void {
  giveParts(g, states);
  takeRows(g);
}

/** 1 / the sum of weights: NaN for a row without any comes out as NaN, or as 0 where the form says so. */
function factorOf({ k, shape }: AttendContext, total: Reg): Reg {
  const factor = k.op('rcp.approx.ftz.f32', total);
  if (shape.form.empty === 'nan') return factor;
  return k.op('selp.f32', factor, 0, k.op('setp.gt.f32', total, 0));
}

/** A row without weights is 0 times 0 where the form gives 0, whatever its sums are. */
const scaled = ({ k, shape }: AttendContext, x: Reg, factor: Reg): Reg => {
  const product = k.op('mul.f32', x, factor);
  if (shape.form.empty === 'nan') return product;
  return k.op('selp.f32', product, 0, k.op('setp.gt.f32', factor, 0));
};

function giveParts(g: AttendContext, states: readonly RowStates[]): void {
  const { k, layout, tile, shape } = g;
  const { ownRows, sumPitch, joinAt, statesAt, parts } = layout;
  const part = k.op('mad.lo.u32', g.rank, tile.wk, g.warpKey);
  if (tile.split > 1) k.do('barrier.cluster.wait.aligned');
  else k.do('bar.sync', 0);
  const kind = tile.split > 1 ? 'shared::cluster' : 'shared';
  const give = ({ sums, most, total }: RowStates, m: number, h: number): void => {
    const row = k.op('mad.lo.u32', g.warpRow, 16 * tile.rm, k.op('add.s32', g.group, 16 * m + 8 * h));
    const owner = divideBy(k, row, ownRows);
    const slot = k.op('mad.lo.u32', part, ownRows, remainderBy(k, row, ownRows));
    const place = (pitch: number, at: Reg): Reg => {
      const local = k.op('mad.lo.u32', slot, pitch, at);
      return tile.split > 1 ? k.op('mapa.shared::cluster.u32', local, owner) : local;
    };
    const sum = acrossPairs(g, total[h], 'add.f32');
    const factor = parts === 1 ? factorOf(g, sum) : undefined;
    const at = place(sumPitch, k.op('mad.lo.u32', g.pair, 8, g.shared));
    for (const [n, s] of sums.entries()) {
      if (n * 8 >= shape.value.extent) continue;
      const pair = [s[2 * h], s[2 * h + 1]].map((x) => (factor ? scaled(g, x, factor) : x));
      k.store(kind, 'f32', k.at(at, joinAt + n * 32), pair);
    }
    if (factor) return;
    const first = k.op('setp.eq.u32', g.pair, 0);
    const state = place(8, g.shared);
    k.when(first, () => k.store(kind, 'f32', k.at(state, statesAt), [most[h], sum]));
  };
  for (const [m, own] of states.entries()) for (const h of [0, 1]) give(own, m, h);
  if (tile.split > 1) {
    k.do('barrier.cluster.arrive.aligned');
    k.do('barrier.cluster.wait.aligned');
  } else k.do('bar.sync', 0);
}

function takeRows(g: AttendContext): void {
  const { k, layout, shape, threads } = g;
  const { ownRows, rows } = layout;
  const chunks = shape.value.extent / CHUNK;
  const wide = 2 ** Math.ceil(Math.log2(chunks));
  const chunk = k.op('and.b32', g.tid, wide - 1);
  const inTurn = k.op('shr.u32', g.tid, Math.log2(wide));
  const step = threads / wide;
  const first = k.op('mad.lo.u32', g.rowTile, rows, k.op('mul.lo.u32', g.rank, ownRows));
  const active = wide === chunks ? undefined : k.op('setp.lt.u32', chunk, chunks);
  for (let i = 0; i * step < ownRows; i++) {
    const own = k.op('add.s32', inTurn, i * step);
    const row = k.op('add.s32', first, own);
    const conditions = [
      ...(active ? [active] : []),
      ...((i + 1) * step <= ownRows ? [] : [k.op('setp.lt.u32', own, ownRows)]),
      ...(shape.queries % rows === 0 ? [] : [k.op('setp.lt.u32', row, shape.queries)]),
    ];
    const run = (): void => finishRow(g, own, row, chunk);
    if (conditions.length === 0) k.scope(run);
    else
      k.if(
        conditions.reduce((a, b) => k.op('and.pred', a, b)),
        run,
      );
  }
}

/** 8 columns of a row of the block: `own` counts the block's rows, `row` all. */
function finishRow(g: AttendContext, own: Reg, row: Reg, chunk: Reg): void {
  const { k, exprs, layout, shape } = g;
  const acc = layout.parts === 1 ? loadSums(g, own, chunk, 0) : joinParts(g, own, chunk);
  exprs.scope(() => {
    for (const { axis, at } of positionsOf(k, row, shape.rows)) exprs.bindAxis(axis, { reg: at, offset: 0 });
    exprs.withLanes(CHUNK, () => {
      exprs.bindAxis(shape.value, { reg: chunk, scale: CHUNK, offset: 0, lanes: true });
      exprs.bindLocal('acc', acc);
      const body = shape.form.epilogue;
      new BodyEmitter(k, { ...g.kernel, body }, exprs).body(body);
    });
  });
}

function loadSums({ k, layout, shared }: AttendContext, own: Reg, chunk: Reg, part: number): Reg[] {
  const { sumPitch, joinAt, ownRows } = layout;
  const at = k.op('mad.lo.u32', own, sumPitch, k.op('mad.lo.u32', chunk, CHUNK * 4, shared));
  return [0, 16].flatMap((half) => k.load('shared', 'f32', k.at(at, joinAt + part * ownRows * sumPitch + half), 4));
}

function joinParts(g: AttendContext, own: Reg, chunk: Reg): Reg[] {
  const { k, layout } = g;
  const { parts, ownRows, statesAt } = layout;
  const stateAt = k.op('mad.lo.u32', own, 8, g.shared);
  const all = Array.from({ length: parts }, (_, p) => p);
  const states = all.map((p) => k.load('shared', 'f32', k.at(stateAt, statesAt + p * ownRows * 8), 2));
  const greatest = states.map(([most]) => most).reduce((a, b) => k.op('max.f32', a, b));
  const powers = states.map(([most]) => powerOf(g, most, greatest));
  const total = states.map(([, sum], p) => k.op('mul.f32', sum, powers[p])).reduce((a, b) => k.op('add.f32', a, b));
  const sums = all
    .map((p) => loadSums(g, own, chunk, p).map((x) => k.op('mul.f32', x, powers[p])))
    .reduce((a, b) => a.map((x, i) => k.op('add.f32', x, b[i])));
  const factor = factorOf(g, total);
  return sums.map((x) => scaled(g, x, factor));
}
