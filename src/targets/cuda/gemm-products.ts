/**
 * The loop over k of a matrix product: stages filled ahead of the one that is multiplied, fragments by ldmatrix, products by mma.sync.
 */

import type { GemmContext } from './gemm-context.ts';
import { copiesOfA, copiesOfB } from './gemm-copies.ts';
import { gatherA, gatherB, withoutStores } from './gemm-gather.ts';
import { CHUNK_BYTES, STEP_BYTES, stageBytes } from './gemm-tiles.ts';
import { digitsOf, linearSum } from './ptx-text.ts';

/** The sums of a thread: [m tile of 16][n tile of 8][4]. */
export type Sums = readonly (readonly (readonly string[])[])[];

/** The sums of this thread. `meanwhile` is written between the first copies and the first products. */
export function multiply(g: GemmContext, meanwhile: () => void): Sums {
  const { w } = g;
  const { bm, bn, wm, wn, stages } = g.tile;
  const [rows, columns] = [bm / wm / 16, bn / wn / 8];
  const bytes = stageBytes(g.tile);
  // Nobody may write to a block of the cluster that has not begun.
  if (g.tile.split > 1) w.line('barrier.cluster.arrive.relaxed');
  const copyB = g.shape.b === 'gathered' ? gatherB(g) : withoutStores(copiesOfB(g));
  const bFirst = g.programmatic && g.shape.b === 'packed';
  const loading = w.reg('b32');
  w.line(`mov.b32 ${loading}, ${g.first}`);
  const guarded = (i: number, body: () => void): void => {
    const beyond = w.op(
      'pred',
      'setp.le.s32',
      g.end,
      typeof g.first === 'number' ? i : w.op('b32', 'add.s32', g.first, i),
    );
    const skip = w.newLabel();
    w.line(`@${beyond} bra ${skip}`);
    body();
    w.label(skip);
  };
  const stageAt = (i: number): string => w.op('b32', 'mov.b32', i * bytes);
  if (bFirst) for (let i = 0; i < stages - 1; i++) guarded(i, () => copyB(stageAt(i))());
  const gathered = g.shape.a === 'gathered' ? gatherA(g) : undefined;
  const first = g.programmatic ? gathered?.first(stages - 1) : undefined;
  const copyA = gathered?.step ?? withoutStores(copiesOfA(g));
  if (g.programmatic) w.line('griddepcontrol.wait');
  first?.load();
  for (let i = 0; i < stages - 1; i++) {
    if (first && i < first.count) first.store(i, stageAt(i));
    guarded(i, () => {
      const at = stageAt(i);
      if (!first) copyA(at)();
      if (!bFirst) copyB(at)();
    });
    w.line('cp.async.commit_group');
  }
  w.line(`add.s32 ${loading}, ${loading}, ${stages - 1}`);
  meanwhile();
  const sums = Array.from({ length: rows }, () => Array.from({ length: columns }, () => w.regs('f32', 4)));
  for (const x of sums.flat(2)) w.line(`mov.f32 ${x}, 0f00000000`);
  const products = productsOfStage(g, rows, columns);
  const [to, from, step] = w.regs('b32', 3);
  w.line(`mov.b32 ${to}, ${(stages - 1) * bytes}`);
  w.line(`mov.b32 ${from}, 0`);
  w.line(`mov.b32 ${step}, ${g.first}`);
  const turn = (x: string): void => {
    w.line(`add.s32 ${x}, ${x}, ${bytes}`);
    w.line(`@${w.op('pred', 'setp.eq.s32', x, stages * bytes)} mov.b32 ${x}, 0`);
  };
  const [loop, skip] = [w.newLabel(), w.newLabel()];
  w.label(loop);
  w.line(`cp.async.wait_group ${stages - 2}`);
  w.line('bar.sync 0');
  const beyond = w.op('pred', 'setp.ge.s32', loading, g.end);
  w.line(`@${beyond} bra ${skip}`);
  const stores = [copyA(to), copyB(to)];
  w.label(skip);
  w.line('cp.async.commit_group');
  products(from, sums);
  if (g.shape.a === 'gathered' || g.shape.b === 'gathered') {
    const stored = w.newLabel();
    w.line(`@${beyond} bra ${stored}`);
    for (const store of stores) store();
    w.label(stored);
  }
  turn(to);
  turn(from);
  w.line(`add.s32 ${loading}, ${loading}, 1`);
  w.line(`add.s32 ${step}, ${step}, 1`);
  w.line(`@${w.op('pred', 'setp.lt.s32', step, g.end)} bra ${loop}`);
  return sums;
}

/** Where a warp's tile lies: numbers along rows, columns and k; '' where there is one. */
export function warpPlace(g: GemmContext): { readonly row: string; readonly column: string; readonly group: string } {
  const { wm, wn, wk } = g.tile;
  const several = [wk, wm, wn].filter((n) => n > 1);
  const digits = digitsOf(g.w, g.warp, several);
  const next = (n: number): string => (n > 1 ? (digits.shift() as string) : '');
  const [group, row, column] = [next(wk), next(wm), next(wn)];
  return { row, column, group };
}

/** What multiplies one stage: four slices of 32 bytes of k, the fragments of the next loaded before the products of this. */
function productsOfStage(g: GemmContext, rows: number, columns: number): (stage: string, sums: Sums) => void {
  const { w } = g;
  const { wm, wn, wk, bm, bn } = g.tile;
  const { dtype, b } = g.shape;
  const { row: warpRow, column: warpColumn, group } = warpPlace(g);
  const perGroup = 4 / wk;
  /** The slice of 32 bytes that a group takes at its turn s: group·perGroup + s; both are in different bits. */
  const inSlices = (x: string): string =>
    group ? w.op('b32', 'xor.b32', x, w.op('b32', 'mul.lo.u32', group, perGroup * 2)) : x;
  const low = w.op('b32', 'and.b32', g.lane, 7);
  const bit = (n: number): string => w.op('b32', 'and.b32', w.op('b32', 'shr.u32', g.lane, n), 1);
  const slices = Array.from({ length: perGroup }, (_, s) => s);
  // a: lanes 0-15 address rows, lane bit 4 the upper half of the slice.
  const aRow = linearSum(
    w,
    [...(warpRow ? [[warpRow, bm / wm] as const] : []), [w.op('b32', 'and.b32', g.lane, 15), 1]],
    0,
  );
  const aHalf = inSlices(w.op('b32', 'xor.b32', bit(4), low));
  const aAt = slices.map((s) => {
    const place = w.op('b32', 'xor.b32', aHalf, 2 * s);
    return w.op(
      'b32',
      'add.s32',
      g.shared,
      linearSum(
        w,
        [
          [aRow, STEP_BYTES],
          [place, CHUNK_BYTES],
        ],
        0,
      ),
    );
  });
  const bAt = slices.map((s) => {
    if (b !== 'columns') {
      // Lane bit 4: columns 8 to 15, bit 3: the upper half of the slice.
      const row = linearSum(w, [...(warpColumn ? [[warpColumn, bn / wn] as const] : []), [bit(4), 8], [low, 1]], 0);
      const place = w.op('b32', 'xor.b32', inSlices(w.op('b32', 'xor.b32', bit(3), low)), 2 * s);
      return w.op(
        'b32',
        'add.s32',
        g.shared,
        linearSum(
          w,
          [
            [row, STEP_BYTES],
            [place, CHUNK_BYTES],
          ],
          bm * STEP_BYTES,
        ),
      );
    }
    const inGroup = group ? [[group, perGroup * 16] as const] : [];
    const row = linearSum(w, [[bit(3), 8], [low, 1], ...inGroup], 16 * s);
    return linearSum(
      w,
      [
        [g.shared, 1],
        [row, bn * 2],
      ],
      bm * STEP_BYTES,
    );
  });
  const columnChunk =
    b === 'columns' ? linearSum(w, [...(warpColumn ? [[warpColumn, bn / wn / 8] as const] : []), [bit(4), 1]], 0) : '';
  const load = (stage: string, s: number) => {
    const atA = w.op('b32', 'add.s32', aAt[s], stage);
    const atB = w.op('b32', 'add.s32', bAt[s], stage);
    const a = Array.from({ length: rows }, (_, i) =>
      ldmatrix(g, 4, `${atA}+${i * 16 * STEP_BYTES}`, false).map((x) => rounded(g, x, true)),
    );
    const bs: string[][] = [];
    for (let j = 0; j < columns; j += 2) {
      const pair = columns - j > 1;
      let at = `${atB}+${j * 8 * STEP_BYTES}`;
      if (b === 'columns') {
        const place = w.op('b32', 'xor.b32', linearSum(w, [[columnChunk, 1]], j), low);
        at = w.op('b32', 'mad.lo.s32', place, CHUNK_BYTES, atB);
      }
      const r = ldmatrix(g, pair ? 4 : 2, at, b === 'columns').map((x) => rounded(g, x, b !== 'packed'));
      bs.push(r.slice(0, 2));
      if (pair) bs.push(r.slice(2));
    }
    return { a, bs };
  };
  const instruction =
    dtype === 'f32' ? 'm16n8k8.row.col.f32.tf32.tf32.f32' : `m16n8k16.row.col.f32.${dtype}.${dtype}.f32`;
  return (stage, sums) => {
    let now = load(stage, 0);
    for (const s of slices) {
      const next = s < perGroup - 1 ? load(stage, s + 1) : now;
      for (const [i, a] of now.a.entries()) {
        for (const [j, bf] of now.bs.entries()) {
          const d = `{${sums[i][j].join(', ')}}`;
          w.line(`mma.sync.aligned.${instruction} ${d}, {${a.join(', ')}}, {${bf.join(', ')}}, ${d}`);
        }
      }
      now = next;
    }
  };
}

function ldmatrix(g: GemmContext, count: number, at: string, transposed: boolean): string[] {
  const d = g.w.regs('b32', count);
  g.w.line(`ldmatrix.sync.aligned.m8n8.x${count}${transposed ? '.trans' : ''}.shared.b16 {${d.join(', ')}}, [${at}]`);
  return d;
}

/** tf32 operands are rounded, not cut off; packed weights are rounded already. */
function rounded(g: GemmContext, x: string, needed: boolean): string {
  if (g.shape.dtype !== 'f32' || !needed) return x;
  return g.w.op('b32', 'cvt.rna.tf32.f32', g.w.op('f32', 'mov.b32', x));
}
