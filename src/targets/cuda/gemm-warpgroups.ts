/**
 * The loop over k of a matrix product by warpgroups (sm_90a): wgmma reads both operands from shared memory and runs beside the copies.
 *
 * A warpgroup of four warps has 64 rows of the tile and all its columns; a warp's sums lie as those of mma.sync (16 rows). The stages
 * are the same: rows of 128 bytes with the chunks xor-ed by the row are the 128-byte swizzle of "Shared Memory Matrix Layout" in the
 * PTX ISA, so a descriptor is an address. A stage is free again when the products of the step after it have begun and its own are
 * waited for by all: copies run stages - 2 ahead.
 */
import type { GemmContext } from './gemm-context.ts';
import { copiesOfA, copiesOfB } from './gemm-copies.ts';
import type { Sums } from './gemm-products.ts';
import { STEP_BYTES, stageBytes } from './gemm-tiles.ts';

/** Descriptor, upper word: 8 rows are 1024 bytes apart (in 16), swizzle of 128 bytes. */
const DESCRIPTOR_HIGH = 64 | (1 << 30);
/** Lower word beside the address: the leading dimension, which this layout does not use. */
const DESCRIPTOR_LOW = 1 << 16;

/** `meanwhile` is written between the first copies and the first products. */
export function multiplyByWarpgroups(g: GemmContext, meanwhile: () => void): Sums {
  const { w } = g;
  const { bm, bn, stages, split } = g.tile;
  const bytes = stageBytes(g.tile);
  const ahead = stages - 2;
  if (split > 1) w.line('barrier.cluster.arrive.relaxed');
  const copyB = copiesOfB(g);
  const bFirst = g.programmatic && g.shape.b === 'packed';
  const stageAt = (i: number): string => w.op('b32', 'mov.b32', i * bytes);
  const inside = (i: number, body: () => void): void => {
    const at = typeof g.first === 'number' ? i : w.op('b32', 'add.s32', g.first, i);
    const skip = w.newLabel();
    w.line(`@${w.op('pred', 'setp.le.s32', g.end, at)} bra ${skip}`);
    body();
    w.label(skip);
  };
  if (bFirst) for (let i = 0; i < ahead; i++) inside(i, () => copyB(stageAt(i)));
  const copyA = copiesOfA(g);
  if (g.programmatic) w.line('griddepcontrol.wait');
  for (let i = 0; i < ahead; i++) {
    inside(i, () => {
      const at = stageAt(i);
      copyA(at);
      if (!bFirst) copyB(at);
    });
    w.line('cp.async.commit_group');
  }
  meanwhile();
  const sums = [Array.from({ length: bn / 8 }, () => w.regs('f32', 4))];
  const flat = sums.flat(2);
  for (const x of flat) w.line(`mov.f32 ${x}, 0f00000000`);
  const [to, from, step, loading] = w.regs('b32', 4);
  w.line(`mov.b32 ${to}, ${ahead * bytes}`);
  w.line(`mov.b32 ${from}, 0`);
  w.line(`mov.b32 ${step}, ${g.first}`);
  w.line(`add.s32 ${loading}, ${step}, ${ahead}`);
  const turn = (x: string): void => {
    w.line(`add.s32 ${x}, ${x}, ${bytes}`);
    w.line(`@${w.op('pred', 'setp.eq.s32', x, stages * bytes)} mov.b32 ${x}, 0`);
  };
  const warpgroup = w.op('b32', 'shr.u32', g.tid, 7);
  const aFirst = w.op('b32', 'mad.lo.s32', warpgroup, 64 * STEP_BYTES, g.shared);
  const bFirstRow = w.op('b32', 'add.s32', g.shared, bm * STEP_BYTES);
  const always = w.op('pred', 'setp.eq.s32', 0, 0);
  const [loop, skip] = [w.newLabel(), w.newLabel()];
  w.label(loop);
  w.line(`cp.async.wait_group ${ahead - 1}`);
  w.line('fence.proxy.async.shared::cta');
  w.line('bar.sync 0');
  w.line('wgmma.fence.sync.aligned');
  const a = descriptors(g, aFirst, from);
  const b = descriptors(g, bFirstRow, from);
  for (const slice of [0, 1, 2, 3]) {
    w.line(
      `wgmma.mma_async.sync.aligned.m64n${bn}k16.f32.${g.shape.dtype}.${g.shape.dtype} {${flat.join(', ')}}, ${a(slice)}, ${b(slice)}, ${always}, 1, 1, 0, 0`,
    );
  }
  w.line('wgmma.commit_group.sync.aligned');
  w.line(`@${w.op('pred', 'setp.ge.s32', loading, g.end)} bra ${skip}`);
  copyA(to);
  copyB(to);
  w.label(skip);
  w.line('cp.async.commit_group');
  w.line('wgmma.wait_group.sync.aligned 1');
  turn(to);
  turn(from);
  w.line(`add.s32 ${loading}, ${loading}, 1`);
  w.line(`add.s32 ${step}, ${step}, 1`);
  w.line(`@${w.op('pred', 'setp.lt.s32', step, g.end)} bra ${loop}`);
  w.line('wgmma.wait_group.sync.aligned 0');
  return sums;
}

/** Descriptors of a stage's slices of 32 bytes of k. */
export function descriptors({ w }: GemmContext, start: string, stage: string): (slice: number) => string {
  const units = w.op('b32', 'shr.u32', w.op('b32', 'add.s32', start, stage), 4);
  return (slice) => {
    const low = w.op('b32', 'add.s32', units, DESCRIPTOR_LOW + 2 * slice);
    const d = w.reg('b64');
    w.line(`mov.b64 ${d}, {${low}, ${DESCRIPTOR_HIGH}}`);
    return d;
  };
}
