/**
 * PTX of a convolution that keeps its window in shared memory (sm_90a): blocks that stay, the weights in shared memory for good, and of the
 * input whole windows of some output rows (gemm-window-plan.ts).
 *
 *     producers (4 warps)   wait until a window's place is empty, copy its input rows into it, zeros where nothing is
 *     consumers (8 warps)   wait until it is full, wgmma of all taps with the weights, let it go; epilogue, warp by warp
 *
 * Barriers, chunks of the epilogue and roles are those of gemm-resident.ts. Both operands lie without swizzle, as core matrices of 8 rows
 * by 16 bytes: of a the rows are neighbouring places, so a tap begins at any multiple of 16 bytes ("Strides" of the PTX ISA's matrix
 * descriptor: leading is the way to the next 8 of k, stride the way to the next 8 rows).
 */
import { beginChunks, type Chunks, chunkColumns, finishChunks, PIECE_BYTES } from './gemm-chunks.ts';
import type { GemmContext, GemmSite } from './gemm-context.ts';
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
  Stages,
} from './gemm-stages.ts';
import { CHUNK_BYTES, STEP_BYTES } from './gemm-tiles.ts';
import {
  paddedWidth,
  type WindowLayout,
  type WindowShape,
  type WindowTile,
  weightBytes,
  windowLayout,
  windowTiles,
} from './gemm-window-plan.ts';
import { digitsOf, linearSum, type PtxText } from './ptx-text.ts';

const WARPGROUPS = CONSUMER_WARPS / 4;

/** Windows, then the weights, then barriers, then a piece for each consumer's warp. */
const weightsAt = (s: WindowShape, t: WindowTile): number => windowLayout(s, t).bytes * t.stages;
const barriersAt = (s: WindowShape, t: WindowTile): number => weightsAt(s, t) + Math.ceil(weightBytes(s) / 128) * 128;
const piecesAt = (s: WindowShape, t: WindowTile): number =>
  barriersAt(s, t) + Math.ceil((2 * t.stages * BARRIER_BYTES) / 128) * 128;
export const windowBytes = (s: WindowShape, t: WindowTile): number => piecesAt(s, t) + CONSUMER_WARPS * PIECE_BYTES;

export interface EmittedWindow {
  readonly code: PtxText;
  readonly grid: readonly [number, number, number];
  readonly block: readonly [number, number, number];
}

export function emitWindow(site: GemmSite, s: WindowShape, tile: WindowTile, multiprocessors: number): EmittedWindow {
  const blocks = Math.min(windowTiles(s, tile), multiprocessors);
  const layout = windowLayout(s, tile);
  const plan = { stages: tile.stages, stageBytes: layout.bytes, barriersAt: barriersAt(s, tile) };
  const g = beginResident(site, s.gemm, plan, (before) => copyWeights(before, s, tile));
  const each = (body: (tileAt: TileAt) => void): void =>
    eachTileOf(g, windowTiles(s, tile), blocks, (at) => body(tilePlace(g, s, tile, at)));
  produceAndConsume(
    g,
    () => {
      const stages = new Stages(g, plan);
      const copies = copiesOfWindow(g, s, layout);
      each((at) => {
        stages.waitEmpty();
        copies(at, stages.offset);
        stages.arriveWithCopies();
        stages.advance();
      });
    },
    () => consume(g, s, tile, each),
  );
  return { code: g.w, grid: [blocks, 1, 1], block: [RESIDENT_THREADS, 1, 1] };
}

/** The tile's image and first output row there. */
interface TileAt {
  readonly image: string;
  readonly row: string;
}

function tilePlace({ w }: GemmContext, s: WindowShape, { rows }: WindowTile, at: string): TileAt {
  const perImage = Math.ceil(s.height / rows);
  const [image, group] = s.images === 1 ? ['', at] : digitsOf(w, at, [0, perImage]);
  return { image, row: rows === 1 ? group : w.op('b32', 'mul.lo.s32', group, rows) };
}

/** All weights, by all threads of the block: chunk j of column c at j·n + c. */
function copyWeights(g: GemmContext, s: WindowShape, tile: WindowTile): void {
  const { w } = g;
  const { plan, n, steps } = s.gemm;
  const chunks = s.chunks.length;
  const total = chunks * n;
  const pointer = g.pointers.get(plan.b.buffer) as string;
  const at = w.reg('b32');
  w.line(`mov.b32 ${at}, ${g.tid}`);
  const [loop, done] = [w.newLabel(), w.newLabel()];
  w.label(loop);
  w.line(`@${w.op('pred', 'setp.ge.s32', at, total)} bra ${done}`);
  const [column, chunk] = digitsOf(w, at, [0, chunks]);
  const from = w.op(
    'b64',
    'mad.wide.u32',
    linearSum(
      w,
      [
        [column, steps * STEP_BYTES],
        [chunk, CHUNK_BYTES],
      ],
      0,
    ),
    1,
    pointer,
  );
  const to = linearSum(
    w,
    [
      [chunk, n * CHUNK_BYTES],
      [column, CHUNK_BYTES],
      [g.shared, 1],
    ],
    weightsAt(s, tile),
  );
  w.line(`cp.async.cg.shared.global [${to}], [${from}], ${CHUNK_BYTES}`);
  w.line(`add.s32 ${at}, ${at}, ${RESIDENT_THREADS}`);
  w.line(`bra ${loop}`);
  w.label(done);
  w.line('cp.async.wait_all');
  w.line('fence.proxy.async.shared::cta');
}

/**
 * What copies a window: a thread's chunks are the same of every one, so that their offsets and rows are computed once. A place outside the
 * input's row has a row that is never inside.
 */
function copiesOfWindow(g: GemmContext, s: WindowShape, layout: WindowLayout): (at: TileAt, stage: string) => void {
  const { w } = g;
  const pointer = g.pointers.get(s.gemm.plan.a.buffer) as string;
  const total = layout.inputRows * layout.places * s.planes;
  const units = Array.from({ length: Math.ceil(total / PRODUCERS) }, (_, i) => {
    const unit = i === 0 ? g.tid : w.op('b32', 'add.s32', g.tid, i * PRODUCERS);
    const [row, place, plane] = digitsOf(w, unit, [0, layout.places, s.planes]);
    const terms = [
      [row, layout.rowBytes],
      [place, CHUNK_BYTES],
      [plane, layout.planeBytes],
      [g.shared, 1],
    ] as const;
    const inside = w.op('pred', 'setp.lt.u32', w.op('b32', 'add.s32', place, s.firstPlace), s.inputPlaces);
    return {
      to: linearSum(w, terms, 0),
      offset: linearSum(
        w,
        [
          [row, s.rowStride],
          [place, s.placeStride],
          [plane, 8],
        ],
        s.constant,
      ),
      row: w.op('b32', 'selp.b32', row, 0x40000000, inside),
      exists: (i + 1) * PRODUCERS <= total ? undefined : w.op('pred', 'setp.lt.s32', unit, total),
    };
  });
  return (at, stage) => {
    const firstRow = w.op('b32', 'mad.lo.s32', at.row, s.step, s.firstRow);
    const base = linearSum(
      w,
      [...(at.image ? [[at.image, s.imageStride] as const] : []), [at.row, s.step * s.rowStride]],
      0,
    );
    for (const { to, offset, row, exists } of units) {
      const inside = w.op('pred', 'setp.lt.u32', w.op('b32', 'add.s32', row, firstRow), s.inputRows);
      const bytes = w.op('b32', 'selp.b32', CHUNK_BYTES, 0, inside);
      const from = w.op('b64', 'mad.wide.s32', w.op('b32', 'add.s32', offset, base), 2, pointer);
      const guard = exists ? `@${exists} ` : '';
      w.line(
        `${guard}cp.async.cg.shared.global [${w.op('b32', 'add.s32', to, stage)}], [${from}], ${CHUNK_BYTES}, ${bytes}`,
      );
    }
  };
}

function consume(g: GemmContext, s: WindowShape, tile: WindowTile, each: (body: (at: TileAt) => void) => void): void {
  const { w } = g;
  const { n, dtype } = s.gemm;
  const layout = windowLayout(s, tile);
  const stages = new Stages(g, { stages: tile.stages, stageBytes: layout.bytes, barriersAt: barriersAt(s, tile) });
  const own = w.op('b32', 'sub.s32', g.tid, PRODUCERS);
  const warp = w.op('b32', 'shr.u32', own, 5);
  const warpgroup = w.op('b32', 'shr.u32', own, 7);
  const inGroup = w.op('b32', 'and.b32', warp, 3);
  const piece = w.op('b32', 'mad.lo.s32', warp, PIECE_BYTES, w.op('b32', 'add.s32', g.shared, piecesAt(s, tile)));
  const isFirstLane = w.op('pred', 'setp.eq.s32', g.lane, 0);
  const isFirst = w.op('pred', 'setp.ne.s32', 0, 0);
  const always = w.op('pred', 'setp.eq.s32', 0, 0);
  // A warpgroup has every second row of the tile, and of each row all products of 64 places.
  const parts = Array.from({ length: tile.rows / WARPGROUPS }, (_, r) =>
    Array.from({ length: paddedWidth(s) / 64 }, (_p, p) => ({ row: r * WARPGROUPS, place: p * 64 })),
  ).flat();
  const sums: Sums = parts.map(() => Array.from({ length: n / 8 }, () => w.regs('f32', 4)));
  const aFirst = w.op('b32', 'mad.lo.s32', warpgroup, s.step * layout.rowBytes, g.shared);
  const bUnits = w.op('b32', 'shr.u32', w.op('b32', 'add.s32', g.shared, weightsAt(s, tile)), 4);
  each((at) => {
    stages.waitFull();
    w.line('fence.proxy.async.shared::cta');
    w.line('wgmma.fence.sync.aligned');
    const aUnits = w.op('b32', 'shr.u32', w.op('b32', 'add.s32', aFirst, stages.offset), 4);
    const chunkAt = (i: number): number => {
      const { row, shift, plane } = s.chunks[i];
      return row * layout.rowBytes + shift * CHUNK_BYTES + plane * layout.planeBytes;
    };
    for (const [p, { row, place }] of parts.entries()) {
      const d = sums[p].flat().join(', ');
      for (let i = 0; i < s.chunks.length; i += 2) {
        const from = chunkAt(i) + row * s.step * layout.rowBytes + place * CHUNK_BYTES;
        const a = descriptor(w, aUnits, from, chunkAt(i + 1) - chunkAt(i));
        const b = descriptor(w, bUnits, i * n * CHUNK_BYTES, n * CHUNK_BYTES);
        w.line(
          `wgmma.mma_async.sync.aligned.m64n${n}k16.f32.${dtype}.${dtype} {${d}}, ${a}, ${b}, ${i === 0 ? isFirst : always}, 1, 1, 0, 0`,
        );
      }
    }
    w.line('wgmma.commit_group.sync.aligned');
    const places = w.op('b32', 'shl.b32', inGroup, 4);
    const outputs = parts.map(({ row, place }) => {
      const outRow = linearSum(
        w,
        [
          [at.row, 1],
          [warpgroup, 1],
        ],
        row,
      );
      const first = linearSum(
        w,
        [[outRow, s.width], ...(at.image ? [[at.image, s.height * s.width] as const] : [])],
        0,
      );
      const isThere = s.height % tile.rows === 0 ? undefined : w.op('pred', 'setp.lt.s32', outRow, s.height);
      return { first: isThere ? w.op('b32', 'selp.b32', first, 0, isThere) : first, place, isThere };
    });
    const planned = (i: number): Chunks => {
      const { first, place, isThere } = outputs[i];
      const position = place === 0 ? places : w.op('b32', 'add.s32', places, place);
      const limit = place + 64 <= s.width ? undefined : s.width;
      return beginChunks(g, { first, position, limit, isThere, column: '', columns: n }, chunkColumns(n));
    };
    const firstPlan = planned(0);
    w.line('wgmma.wait_group.sync.aligned 0');
    release(g, isFirstLane, w.op('b32', 'add.s32', stages.barrier, stages.emptyOffset));
    stages.advance();
    for (const [i, part] of sums.entries()) finishChunks(g, i === 0 ? firstPlan : planned(i), part, piece);
  });
}

/** Without swizzle: `leading` bytes to the next 8 of k, 128 to the next 8 rows. */
function descriptor(w: PtxText, units: string, offset: number, leading: number): string {
  const low = w.op('b32', 'add.s32', units, offset / CHUNK_BYTES);
  const both = w.op('b32', 'or.b32', w.op('b32', 'and.b32', low, 0x3fff), (leading / CHUNK_BYTES) << 16);
  const d = w.reg('b64');
  w.line(`mov.b64 ${d}, {${both}, ${128 / CHUNK_BYTES}}`);
  return d;
}
