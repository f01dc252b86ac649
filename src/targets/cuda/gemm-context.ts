/**
 * What the parts of a tensor-core kernel share while they are written: the text, the problem, and registers that name the place of the
 * thread, its block and the block's part of k.
 */
import type { Kernel } from '../../loop/ir.ts';
import { type Ends, leaveEmpty, readEnds } from './gemm-limits.ts';
import { coefOf, isLimited, type Linear } from './gemm-plan.ts';
import type { GemmShape, TileParams } from './gemm-tiles.ts';
import { digitsOf, PtxText } from './ptx-text.ts';

/** A kernel to be written: see KernelSite. */
export interface GemmSite {
  readonly name: string;
  readonly kernel: Kernel;
  /** What divides the address of each buffer. */
  readonly alignments: readonly number[];
  readonly programmatic: boolean;
}

export interface GemmContext {
  readonly w: PtxText;
  readonly kernel: Kernel;
  readonly shape: GemmShape;
  readonly tile: TileParams;
  /** Whether the kernel before is still to be waited for. */
  readonly programmatic: boolean;
  readonly threads: number;
  /** Names of the buffers that begin at a multiple of 16 bytes. */
  readonly aligned: ReadonlySet<string>;
  /** Buffer names to the registers that hold their addresses. */
  readonly pointers: ReadonlyMap<string, string>;
  /** Start of the shared memory. */
  readonly shared: string;
  readonly tid: string;
  readonly lane: string;
  readonly warp: string;
  /** Number of the block in its cluster; 0 where it is alone. */
  readonly rank: string;
  /** Number of the block's tile along rows and along columns; '' where there is one column of tiles. */
  readonly rowTile: string;
  readonly columnTile: string;
  /** Where limited axes and guards end. */
  readonly ends: Ends;
  /** Batch axes to the registers of their positions. */
  readonly batch: ReadonlyMap<string, string>;
  /** Steps of k: the block's first and end; registers where blocks share k. */
  readonly first: string | number;
  readonly end: string | number;
}

/** Writes the beginning of a kernel. */
export function beginGemm(site: GemmSite, shape: GemmShape, tile: TileParams): GemmContext {
  const { kernel } = site;
  const params = kernel.buffers.map((_, i) => `p${i}`);
  const threads = tile.wm * tile.wn * tile.wk * 32;
  const directives = [
    `.maxntid ${threads}, 1, 1`,
    ...(tile.split > 1 ? [`.reqnctapercluster ${tile.split}, 1, 1`] : []),
  ];
  const w = new PtxText(site.name, params, directives, tile.wgmma === 1);
  const { n, steps, plan } = shape;
  const { bn, split } = tile;
  const pointers = new Map(kernel.buffers.map((b, i) => [b.name, w.op('b64', 'ld.param.u64', `[${w.param(i)}]`)]));
  const limited = isLimited(plan);
  if (limited && site.programmatic) w.line('griddepcontrol.wait');
  const ends = readEnds(w, pointers, plan);
  const tid = w.op('b32', 'mov.u32', '%tid.x');
  const block = w.op('b32', 'mov.u32', '%ctaid.x');
  const rank = split === 1 ? '0' : w.op('b32', 'and.b32', block, split - 1);
  const tileAt = split === 1 ? block : w.op('b32', 'shr.u32', block, Math.log2(split));
  const columns = Math.ceil(n / bn);
  const [rowTile, columnTile] = columns === 1 ? [tileAt, ''] : digitsOf(w, tileAt, [0, columns]);
  const batchExtents = plan.batch.map((a) => a.extent);
  const batch = batchExtents.length === 0 ? [] : digitsOf(w, w.op('b32', 'mov.u32', '%ctaid.y'), batchExtents);
  if (limited) leaveEmpty(w, ends, plan, { batch, firstRow: w.op('b32', 'mul.lo.u32', rowTile, tile.bm) });
  const share = (r: string): string => w.op('b32', 'div.u32', w.op('b32', 'mul.lo.u32', r, steps), split);
  return {
    w,
    kernel,
    shape,
    tile,
    programmatic: site.programmatic && !limited,
    threads,
    aligned: new Set(kernel.buffers.filter((_, i) => site.alignments[i] >= 16).map((b) => b.name)),
    pointers,
    shared: w.sharedStart(),
    tid,
    lane: w.op('b32', 'and.b32', tid, 31),
    warp: w.op('b32', 'shr.u32', tid, 5),
    rank,
    rowTile,
    columnTile,
    ends,
    batch: new Map(plan.batch.map((a, i) => [a.name, batch[i]])),
    first: split === 1 ? 0 : share(rank),
    end: split === 1 ? steps : share(w.op('b32', 'add.s32', rank, 1)),
  };
}

/** Registers with their axes' coefficients in a linear form. */
export const termsOf = (form: Linear, digits: Iterable<readonly [string, string]>): (readonly [string, number])[] =>
  [...digits].map(([axis, reg]) => [reg, coefOf(form, axis)] as const);
