/**
 * Tiles of the tensor-core matrix product, and which of them a contract may use: everything legality asks, in one place.
 *
 * A block computes bm × bn of the output by wm × wn × wk warps; k runs in steps of 128 bytes through `stages` buffers in shared
 * memory; `split` blocks of a cluster share the k of a tile and add up through each other's shared memory.
 */
import { DTYPES, type DType } from '../../core/dtype.ts';
import type { Kernel } from '../../loop/ir.ts';
import type { KernelFacts } from '../target.ts';
import { canEmitEpilogue } from './gemm-epilogue.ts';
import { takesLimits } from './gemm-limits.ts';
import { coefOf, extentOf, type GemmPlan, planGemm } from './gemm-plan.ts';

export interface Tile {
  readonly bm: number;
  readonly bn: number;
  /** Warps along m and n. */
  readonly wm: number;
  readonly wn: number;
  /** Groups of such warps that share the k of each step: more warps where a tile is small. */
  readonly wk: number;
  /** 1: by warpgroups with wgmma, each 64 rows of all columns. */
  readonly wgmma: 0 | 1;
}

const WARP_TILES: readonly Omit<Tile, 'wgmma'>[] = [
  { bm: 128, bn: 128, wm: 2, wn: 4, wk: 1 },
  { bm: 128, bn: 64, wm: 4, wn: 2, wk: 1 },
  { bm: 64, bn: 128, wm: 2, wn: 4, wk: 1 },
  { bm: 64, bn: 64, wm: 2, wn: 2, wk: 1 },
  { bm: 64, bn: 64, wm: 2, wn: 2, wk: 2 },
  { bm: 64, bn: 32, wm: 4, wn: 1, wk: 1 },
  { bm: 64, bn: 32, wm: 2, wn: 1, wk: 4 },
  { bm: 32, bn: 64, wm: 2, wn: 2, wk: 1 },
  { bm: 32, bn: 64, wm: 1, wn: 2, wk: 4 },
  { bm: 32, bn: 32, wm: 2, wn: 2, wk: 1 },
  { bm: 32, bn: 32, wm: 1, wn: 1, wk: 4 },
  { bm: 32, bn: 32, wm: 2, wn: 1, wk: 4 },
  { bm: 16, bn: 64, wm: 1, wn: 4, wk: 1 },
  { bm: 16, bn: 64, wm: 1, wn: 2, wk: 4 },
  { bm: 16, bn: 32, wm: 1, wn: 2, wk: 1 },
  { bm: 16, bn: 32, wm: 1, wn: 1, wk: 4 },
];
/** A warp has 16 rows, a warpgroup four warps. */
const WARPGROUP_TILES: readonly Omit<Tile, 'wgmma'>[] = [
  { bm: 128, bn: 256, wm: 8, wn: 1, wk: 1 },
  { bm: 128, bn: 128, wm: 8, wn: 1, wk: 1 },
  { bm: 128, bn: 64, wm: 8, wn: 1, wk: 1 },
  { bm: 256, bn: 128, wm: 16, wn: 1, wk: 1 },
  { bm: 256, bn: 64, wm: 16, wn: 1, wk: 1 },
  { bm: 64, bn: 256, wm: 4, wn: 1, wk: 1 },
  { bm: 64, bn: 128, wm: 4, wn: 1, wk: 1 },
  { bm: 64, bn: 64, wm: 4, wn: 1, wk: 1 },
];
const TILES: readonly Tile[] = [
  ...WARP_TILES.map((t) => ({ ...t, wgmma: 0 as const })),
  ...WARPGROUP_TILES.map((t) => ({ ...t, wgmma: 1 as const })),
];
const STAGES = [2, 3, 4, 6] as const;
const SPLITS = [1, 2, 4, 8] as const;

/** Bytes of k that one step takes: a line of shared memory, eight chunks of 16 bytes. */
export const STEP_BYTES = 128;
export const CHUNK_BYTES = 16;

/** Fewer columns leave most of a tile idle: products with vectors, depthwise convolutions. */
const LEAST_COLUMNS = 8;
/** Longest k that is gathered: the table in the module grows with it. */
const MOST_GATHERED = 1024;
/** Guards that an entry of the table has room for. */
export const MOST_GATHER_GUARDS = 3;

export type BKind =
  /** Constant, arranged by us: rows of k for each column, padded to whole steps. */
  | 'packed'
  /** Where it lies: k contiguous. */
  | 'rows'
  /** Where it lies: columns contiguous. */
  | 'columns'
  /** Element by element. */
  | 'gathered';

export type AKind =
  /** 16 bytes of k lie side by side, aligned. */
  | 'chunks'
  /** Element by element. */
  | 'gathered';

/** What the emitter needs to know beside the plan and the tile. */
export interface GemmShape {
  readonly plan: GemmPlan;
  readonly dtype: DType;
  readonly elementBytes: number;
  readonly batch: number;
  readonly m: number;
  readonly n: number;
  readonly k: number;
  /** Steps of k, the last perhaps partly beyond k. */
  readonly steps: number;
  readonly a: AKind;
  readonly b: BKind;
}

/** Undefined where the tensor cores cannot run the contract as it lies in memory. */
export function gemmShape(kernel: Kernel, facts: KernelFacts): GemmShape | undefined {
  const plan = planGemm(kernel);
  if (plan?.form.acc !== 'f32' || !takesLimits(plan)) return undefined;
  const dtypeOf = (name: string): DType | undefined => kernel.buffers.find((x) => x.name === name)?.dtype;
  const dtype = dtypeOf(plan.a.buffer);
  if (dtype === undefined || dtypeOf(plan.b.buffer) !== dtype) return undefined;
  if (dtype !== 'f16' && dtype !== 'bf16' && !(dtype === 'f32' && facts.tf32)) return undefined;
  const axes = new Set(plan.form.axes.map((a) => a.name));
  if (plan.form.axes.filter((a) => a.role === 'n' && a.extent > 1).length > 1) return undefined;
  if (extentOf(plan.n) < LEAST_COLUMNS) return undefined;
  if (!canEmitEpilogue(plan.form.epilogue, axes)) return undefined;
  const elementBytes = DTYPES[dtype].bytes;
  const chunk = CHUNK_BYTES / elementBytes;
  const k = extentOf(plan.k);
  const shape = {
    plan,
    dtype,
    elementBytes,
    batch: extentOf(plan.batch),
    m: extentOf(plan.m),
    n: extentOf(plan.n),
    k,
    steps: Math.ceil((k * elementBytes) / STEP_BYTES),
  };
  if (shape.batch > 65535 || kernel.buffers.some((x) => x.elements >= 2 ** 31)) return undefined;
  const a = !facts.unaligned?.has(plan.a.buffer) && aIsChunked(plan, chunk) ? 'chunks' : 'gathered';
  if (a === 'gathered' && (k > MOST_GATHERED || plan.a.guards.length > MOST_GATHER_GUARDS)) return undefined;
  const b = bKind(plan, facts, chunk, dtype);
  return b && { ...shape, a, b };
}

/** Every chunk of a's innermost k is 16 bytes in a row, aligned, and wholly inside or outside a guard. */
function aIsChunked(plan: GemmPlan, chunk: number): boolean {
  const inner = plan.k.at(-1);
  if (!inner || inner.extent % chunk !== 0 || coefOf(plan.a, inner.name) !== 1) return false;
  if (plan.a.guards.some((g) => coefOf(g, inner.name) !== 0)) return false;
  const others = [...plan.batch, ...plan.m, ...plan.k.slice(0, -1)];
  return plan.a.constant % chunk === 0 && others.every((x) => coefOf(plan.a, x.name) % chunk === 0);
}

function bKind(plan: GemmPlan, facts: KernelFacts, chunk: number, dtype: DType): BKind | undefined {
  if (facts.constant.has(plan.b.buffer)) return 'packed';
  const gathered = extentOf(plan.k) <= MOST_GATHERED ? 'gathered' : undefined;
  if (facts.unaligned?.has(plan.b.buffer) || plan.k.length !== 1 || plan.b.constant % chunk !== 0) return gathered;
  const n = plan.n[0]?.name ?? '';
  const k = plan.k[0].name;
  if (plan.batch.some((x) => coefOf(plan.b, x.name) % chunk !== 0)) return gathered;
  if (coefOf(plan.b, k) === 1 && coefOf(plan.b, n) % chunk === 0) {
    // Beyond k's end a chunk would hold elements of the next row.
    return plan.k[0].extent % chunk === 0 ? 'rows' : gathered;
  }
  // Fragments of columns are transposed by ldmatrix, which knows 16-bit elements only.
  const columns = dtype !== 'f32' && coefOf(plan.b, n) === 1 && coefOf(plan.b, k) % chunk === 0;
  return columns && (plan.n[0]?.extent ?? 1) % chunk === 0 ? 'columns' : gathered;
}

export interface TileParams extends Tile {
  readonly stages: number;
  readonly split: number;
}
export const stageBytes = (t: Tile): number => (t.bm + t.bn) * STEP_BYTES;
/** Pitch of a row of sums in shared memory: 32 bytes more than a line, so that a warp's stores meet different banks. */
export const sumPitch = (t: Tile): number => t.bn * 4 + 32;
/** Turns of a thread whose rows are loaded ahead: each takes some registers through the whole of k. */
export const MOST_ROWS_AHEAD = 4;
/** Sums of all groups of warps, one behind the other. */
export const sumBytes = (t: Tile): number => t.wk * t.bm * sumPitch(t);
/** Where sums lie: over the stages, but behind them where other blocks may write while this one still reads its stages. */
export const sumsAt = (t: TileParams): number => (t.split > 1 ? stageBytes(t) * t.stages : 0);
export const sharedBytes = (t: TileParams): number => Math.max(stageBytes(t) * t.stages, sumsAt(t) + sumBytes(t));

export interface GemmChip {
  readonly sharedBytesPerBlock: number;
  readonly clusters: boolean;
  /** wgmma: sm_90a. */
  readonly warpgroups: boolean;
}

/** Legal parameter rows. */
export function tileRows(shape: GemmShape, chip: GemmChip): TileParams[] {
  const rows: TileParams[] = [];
  for (const tile of TILES) {
    if (shape.b === 'columns' && tile.bn < 64) continue;
    if (tile.wgmma && !(chip.warpgroups && canWarpgroup(shape))) continue;
    // A gathering warp has 32 rows.
    if (shape.a === 'gathered' && tile.bm < 32) continue;
    for (const split of SPLITS) {
      if (split > 1 && (!chip.clusters || shape.steps < 2 * split || tile.bm % split !== 0)) continue;
      const steps = Math.ceil(shape.steps / split);
      for (const stages of STAGES) {
        // Copies run a stage ahead of the products, two for warpgroups; more buffers than steps are never filled.
        const least = tile.wgmma || steps > 2 ? 3 : 2;
        if (stages < least || stages > Math.max(least, steps + 1 + tile.wgmma)) continue;
        const row = { ...tile, stages, split };
        if (sharedBytes(row) <= chip.sharedBytesPerBlock) rows.push(row);
      }
    }
  }
  return rows;
}

/** wgmma takes 16-bit elements as they lie in stages of rows; the copies' stores are told to it, a gather's are not. */
const canWarpgroup = ({ a, b, elementBytes }: GemmShape): boolean =>
  a === 'chunks' && (b === 'packed' || b === 'rows') && elementBytes === 2;
