/**
 * PTX of the tensor-core matrix product by blocks that stay (sm_90a): one block a multiprocessor does tile after tile, its warps with
 * different work.
 *
 *     producers (4 warps)   tile by tile, step by step: wait until a stage is empty, copy a and b into it
 *     consumers (8 warps)   wait until a stage is full, wgmma; behind the last step of a tile the epilogue, warp by warp
 *
 * So a tile's copies run while the tile before is finished, and a block may have a tile as large as its sums fit in registers: per product
 * it then reads least from the second-level cache. A stage's two barriers (mbarrier) count the producers' threads, whose copies arrive as
 * they land, and the consumers' warps. Sums leave by way of a piece of shared memory of each warp's own, a few columns at a time: no
 * barrier of the block stands in an epilogue. Stages are those of gemm-warpgroups.ts.
 */
import { beginChunks, type Chunks, chunkColumns, finishChunks, PIECE_BYTES } from './gemm-chunks.ts';
import type { GemmContext, GemmSite } from './gemm-context.ts';
import { copiesOfA, copiesOfB } from './gemm-copies.ts';
import type { Sums } from './gemm-products.ts';
import {
  BARRIER_BYTES,
  beginResident,
  CONSUMER_WARPS,
  eachTileOf,
  PRODUCERS,
  produceAndConsume,
  RESIDENT_THREADS,
  release,
  type StagePlan,
  Stages,
} from './gemm-stages.ts';
import { type GemmShape, STEP_BYTES, stageBytes, type Tile } from './gemm-tiles.ts';
import { descriptors } from './gemm-warpgroups.ts';
import { digitsOf, linearSum, type PtxText } from './ptx-text.ts';

export interface ResidentTile {
  readonly bm: number;
  readonly bn: number;
  readonly stages: number;
}

const asTile = ({ bm, bn }: ResidentTile): Tile => ({ bm, bn, wm: CONSUMER_WARPS, wn: 1, wk: 1, wgmma: 1 });
const stagesBytes = (t: ResidentTile): number => stageBytes(asTile(t)) * t.stages;
/** Stages, then their barriers, then a piece for each consumer's warp. */
const piecesAt = (t: ResidentTile): number => stagesBytes(t) + Math.ceil((2 * t.stages * BARRIER_BYTES) / 128) * 128;
export const residentBytes = (t: ResidentTile): number => piecesAt(t) + CONSUMER_WARPS * PIECE_BYTES;
export const tilesOf = ({ m, n }: GemmShape, { bm, bn }: ResidentTile): number => Math.ceil(m / bm) * Math.ceil(n / bn);

export interface EmittedResident {
  readonly code: PtxText;
  readonly grid: readonly [number, number, number];
  readonly block: readonly [number, number, number];
}

export function emitResident(
  site: GemmSite,
  shape: GemmShape,
  tile: ResidentTile,
  multiprocessors: number,
): EmittedResident {
  const blocks = Math.min(tilesOf(shape, tile), multiprocessors);
  const plan = { stages: tile.stages, stageBytes: stageBytes(asTile(tile)), barriersAt: stagesBytes(tile) };
  const g = beginResident(site, shape, plan, undefined, { ...asTile(tile), stages: tile.stages, split: 1 });
  const each = (body: (at: GemmContext) => void): void => eachTile(g, tile, blocks, body);
  produceAndConsume(
    g,
    () => produce(g, plan, each),
    () => consume(g, tile, plan, each),
  );
  return { code: g.w, grid: [blocks, 1, 1], block: [RESIDENT_THREADS, 1, 1] };
}

type EachTile = (body: (at: GemmContext) => void) => void;

/** Runs `body` for each tile of the block, with a context that knows where the tile lies. */
function eachTile(g: GemmContext, tile: ResidentTile, blocks: number, body: (at: GemmContext) => void): void {
  const { w, shape } = g;
  const columns = Math.ceil(shape.n / tile.bn);
  eachTileOf(g, tilesOf(shape, tile), blocks, (at) => {
    const [rowTile, columnTile] = columns === 1 ? [at, ''] : digitsOf(w, at, [0, columns]);
    body({ ...g, rowTile, columnTile });
  });
}

/** Writes a loop over the steps of k; `body` is given the step's register. */
function eachStep(g: GemmContext, body: (step: string) => void): void {
  const { w } = g;
  const step = w.reg('b32');
  const loop = w.newLabel();
  w.line(`mov.b32 ${step}, 0`);
  w.label(loop);
  body(step);
  w.line(`add.s32 ${step}, ${step}, 1`);
  w.line(`@${w.op('pred', 'setp.lt.s32', step, g.shape.steps)} bra ${loop}`);
}

function produce(g: GemmContext, plan: StagePlan, each: EachTile): void {
  const stages = new Stages(g, plan);
  each((at) => {
    const copyA = copiesOfA(at);
    const copyB = copiesOfB(at);
    eachStep(at, () => {
      stages.waitEmpty();
      copyA(stages.offset);
      copyB(stages.offset);
      stages.arriveWithCopies();
      stages.advance();
    });
  });
}

function consume(g: GemmContext, tile: ResidentTile, plan: StagePlan, each: EachTile): void {
  const { w, shape } = g;
  const { bm, bn } = tile;
  const stages = new Stages(g, plan);
  const own = w.op('b32', 'sub.s32', g.tid, PRODUCERS);
  const warp = w.op('b32', 'shr.u32', own, 5);
  const warpgroup = w.op('b32', 'shr.u32', own, 7);
  const inGroup = w.op('b32', 'and.b32', warp, 3);
  const row = w.op('b32', 'mad.lo.s32', warpgroup, bm / 2, w.op('b32', 'shl.b32', inGroup, 4));
  const aFirst = w.op('b32', 'mad.lo.s32', warpgroup, (bm / 2) * STEP_BYTES, g.shared);
  const bFirst = w.op('b32', 'add.s32', g.shared, bm * STEP_BYTES);
  const piece = w.op('b32', 'mad.lo.s32', warp, PIECE_BYTES, w.op('b32', 'add.s32', g.shared, piecesAt(tile)));
  const isFirstLane = w.op('pred', 'setp.eq.s32', g.lane, 0);
  const always = w.op('pred', 'setp.eq.s32', 0, 0);
  const sums: Sums = Array.from({ length: bm / 128 }, () => Array.from({ length: bn / 8 }, () => w.regs('f32', 4)));
  const used = w.reg('b32');
  each((at) => {
    eachStep(at, (step) => {
      const isLater = w.op('pred', 'setp.ne.s32', step, 0);
      stages.waitFull();
      w.line('fence.proxy.async.shared::cta');
      w.line('wgmma.fence.sync.aligned');
      const b = descriptors(g, bFirst, stages.offset);
      for (const [i, part] of sums.entries()) {
        const a = descriptors(g, w.op('b32', 'add.s32', aFirst, i * 64 * STEP_BYTES), stages.offset);
        const d = part.flat().join(', ');
        for (const slice of [0, 1, 2, 3]) {
          const adds = slice === 0 ? isLater : always;
          w.line(
            `wgmma.mma_async.sync.aligned.m64n${bn}k16.f32.${shape.dtype}.${shape.dtype} {${d}}, ${a(slice)}, ${b(slice)}, ${adds}, 1, 1, 0, 0`,
          );
        }
      }
      w.line('wgmma.commit_group.sync.aligned');
      w.line('wgmma.wait_group.sync.aligned 1');
      // The products of the step before are done, so its stage may be filled again.
      const frees = w.op('pred', 'and.pred', isLater, isFirstLane);
      release(g, frees, used);
      w.line(`add.s32 ${used}, ${stages.barrier}, ${stages.emptyOffset}`);
      stages.advance();
    });
    const isWhole = shape.m % bm === 0;
    const firstRow = w.op('b32', 'mul.lo.s32', at.rowTile, bm);
    const limit = isWhole ? undefined : w.op('b32', 'sub.s32', shape.m, firstRow);
    const column = at.columnTile ? w.op('b32', 'mul.lo.s32', at.columnTile, bn) : '';
    const planned = (i: number): Chunks => {
      const position = linearSum(w, [[row, 1]], i * 64);
      return beginChunks(g, { first: firstRow, position, limit, column, columns: bn }, chunkColumns(bn));
    };
    const first = planned(0);
    w.line('wgmma.wait_group.sync.aligned 0');
    release(g, isFirstLane, used);
    for (const [i, part] of sums.entries()) finishChunks(g, i === 0 ? first : planned(i), part, piece);
  });
}
