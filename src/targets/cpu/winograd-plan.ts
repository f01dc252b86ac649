/**
 * A convolution as Winograd's method sees it, and how its work is cut.
 *
 * It must have windows of 3×3 with stride 1 or 2 and dilation 1, one group, channels innermost in memory and whole vectors of channels on both
 * sides. Of a convolution in three dimensions that holds for the last two; the first has any window, and its taps are summed over like
 * channels. Tiles of the output reach over its edge where its size is no multiple of theirs, so what an operand says of its extents must
 * hold for every coordinate inside them: then no address leaves the buffer, whoever wrote the kernel.
 */
import type { Access, AccessDim, Axis, Expr, Kernel, Stmt } from '../../loop/ir.ts';
import { legalizeKernel } from '../../loop/legalize.ts';
import type { Params } from '../target.ts';
import type { Asm, Reg } from './asm.ts';
import { rowsFor } from './contract-blocking.ts';
import { hasLimit } from './contract-plan.ts';
import { divideUp, partOf as shareOf } from './present-tiles.ts';
import { CPU_OPS } from './scalar-ops.ts';
import { pointsOf } from './winograd-matrices.ts';

/** One direction of the image. */
export interface WinogradSide {
  /** Of the output. */
  readonly axis: Axis;
  readonly tap: Axis;
  /** Elements of the input before its first one that the first window covers. */
  readonly pad: number;
  /** Of the input, and elements from one to the next. */
  readonly extent: number;
  readonly limit: Expr | undefined;
  readonly stride: number;
}

/** The dim outside the image over whose taps products are summed too. */
export interface WinogradDepth extends WinogradSide {
  /** Of neighbouring outputs, and of neighbouring taps, in elements of the dim. */
  readonly step: number;
  readonly dilation: number;
}

export interface WinogradPlan {
  readonly a: string;
  readonly b: Access;
  /** Elements of a before its first one. */
  readonly start: number;
  /** Images: axes of m that move a by a stride. */
  readonly images: readonly { readonly axis: Axis; readonly stride: number }[];
  readonly y: WinogradSide;
  readonly x: WinogradSide;
  readonly depth: WinogradDepth | undefined;
  readonly channel: Axis;
  readonly n: Axis;
  /** Of the image: inputs from a window to the next one, 1 or 2. */
  readonly step: number;
  /** Axes of extent 1: always 0. */
  readonly fixed: readonly Axis[];
  /** With operations that the machine has. */
  readonly epilogue: readonly Stmt[];
}

const plans = new WeakMap<Kernel, WinogradPlan | null>();

/** Undefined where the kernel is no such convolution. */
export function planWinograd(kernel: Kernel): WinogradPlan | undefined {
  const known = plans.get(kernel);
  if (known !== undefined) return known ?? undefined;
  const plan = makePlan(kernel);
  plans.set(kernel, plan ?? null);
  return plan;
}

function makePlan(kernel: Kernel): WinogradPlan | undefined {
  const { form } = kernel;
  if (form.kind !== 'contract' || form.acc !== 'f32' || form.axes.some((x) => x.extent === 0)) return undefined;
  const dtypeOf = (name: string) => kernel.buffers.find((b) => b.name === name);
  const [a, b] = [dtypeOf(form.a.buffer), dtypeOf(form.b.buffer)];
  if (a?.dtype !== 'f32' || b?.dtype !== 'f32' || form.b.dims.some((d) => d.padded)) return undefined;
  // Images, rows and columns may end at run time; channels, and axes that are left out, may not.
  if (hasLimit(form.axes.filter((x) => x.role !== 'm' || x.extent <= 1))) return undefined;
  const axes = form.axes.filter((x) => x.extent > 1);
  const of = (role: string) => axes.filter((x) => x.role === role);
  if (of('batch').length > 0 || of('n').length !== 1) return undefined;
  const parts = form.a.dims.map((dim) => partOf(dim, axes));
  if (parts.includes(undefined)) return undefined;
  const sides = parts.flatMap((p) => (p?.kind === 'side' ? [p.side] : []));
  const channels = parts.flatMap((p) => (p?.kind === 'channel' ? [p] : []));
  const images = parts.flatMap((p) => (p?.kind === 'image' ? [p] : []));
  const [y, x] = sides.slice(-2);
  const [depth, ...more] = sides.slice(0, -2);
  if (
    !x ||
    more.length > 0 ||
    ![y, x].every(isPlain) ||
    y.step !== x.step ||
    channels.length !== 1 ||
    channels[0].stride !== 1
  )
    return undefined;
  if (depth && (depth.axis.limit || depth.limit)) return undefined;
  if (images.length + sides.length !== of('m').length || sides.length + 1 !== of('k').length) return undefined;
  const reach = form.a.dims.reduce((sum, d) => sum + Math.max(0, d.extent - 1) * d.stride, 0);
  if (form.a.dims.some((d) => d.stride < 0) || reach >= a.elements) return undefined;
  return {
    a: form.a.buffer,
    b: form.b,
    start: parts.reduce((sum, p) => sum + (p && p.kind !== 'side' ? p.start : 0), 0),
    images,
    y,
    x,
    depth,
    channel: channels[0].axis,
    n: of('n')[0],
    step: y.step,
    fixed: form.axes.filter((x) => x.extent === 1),
    epilogue: legalizeKernel(kernel, CPU_OPS).body.slice(1),
  };
}

const isPlain = ({ tap, step, dilation }: WinogradDepth): boolean => tap.extent === 3 && step <= 2 && dilation === 1;

/** Points of k: channels, for each tap of the depth. */
export const summedOf = ({ channel, depth }: WinogradPlan): number => channel.extent * (depth?.tap.extent ?? 1);

type Part =
  | { readonly kind: 'side'; readonly side: WinogradDepth }
  | { readonly kind: 'channel' | 'image'; readonly axis: Axis; readonly stride: number; readonly start: number }
  | { readonly kind: 'still'; readonly start: number };

/** What a dim of the input is, from the axes that move it; undefined where Winograd's method has no such dim. */
function partOf(dim: AccessDim, axes: readonly (Axis & { readonly role: string })[]): Part | undefined {
  const moving = dim.at.terms.flatMap(({ axis: name, coef }) => {
    const axis = axes.find((x) => x.name === name);
    return axis ? [{ axis, coef }] : [];
  });
  if (moving.length > 2) return undefined;
  const output = moving.find(({ axis }) => axis.role === 'm');
  const summed = moving.find(({ axis }) => axis.role === 'k');
  const { constant } = dim.at;
  if (output && summed) {
    const [step, dilation] = [output.coef, summed.coef];
    if (step < 1 || dilation < 1) return undefined;
    const { extent, stride } = dim;
    return {
      kind: 'side',
      side: { axis: output.axis, tap: summed.axis, pad: -constant, extent, limit: dim.limit, stride, step, dilation },
    };
  }
  const axis = (output ?? summed)?.axis;
  if (moving.length > 1 || moving.some(({ coef }) => coef !== 1)) return undefined;
  if (dim.padded || constant < 0 || constant + (axis?.extent ?? 1) > dim.extent) return undefined;
  const start = constant * dim.stride;
  return axis ? { kind: summed ? 'channel' : 'image', axis, stride: dim.stride, start } : { kind: 'still', start };
}

/** Whether tiles are counted at run time. */
export const isOpen = (plan: WinogradPlan): boolean =>
  hasLimit([...outerAxes(plan), plan.y.axis, plan.x.axis]) || plan.y.limit !== undefined || plan.x.limit !== undefined;

/** Axes of m beside those of the image, outermost first. */
export const outerAxes = ({ images, depth }: WinogradPlan): readonly Axis[] => [
  ...images.map(({ axis }) => axis),
  ...(depth ? [depth.axis] : []),
];

/** How tiles are shared out, and what a thread's scratch holds. */
export interface WinogradBlocking {
  /** Tiles of the output along x and y, and of all images. */
  readonly across: number;
  readonly down: number;
  readonly tiles: number;
  readonly panels: number;
  /** Tiles and panels of a unit of work. */
  readonly tilesInBlock: number;
  readonly panelsInBlock: number;
  readonly tBlocks: number;
  readonly nBlocks: number;
  /** Bytes between the planes of two points, an odd number of cache lines, so that a tile's points spread over the sets of a cache. */
  readonly planeBytes: number;
  /** Of the parts of the scratch, and of all. */
  readonly coordsAt: number;
  readonly inputsAt: number;
  readonly sumsAt: number;
  readonly scratchBytes: number;
}

const LINE_BYTES = 64;
/** What the transformed inputs of a block may take, so that they stay in the second-level cache: more where each block fetches all weights again. */
const BLOCK_BYTES = 512 * 1024;
const BLOCK_BYTES_FAR = 1536 * 1024;
/** Weights of so many bytes do not stay in a second-level cache from one block of tiles, or one inference, to the next. */
const FAR_BYTES = 1024 * 1024;

/** Whether weights come from afar. */
export const isFar = (plan: WinogradPlan, { tile }: Params): boolean =>
  pointsOf(tile, plan.step) ** 2 * summedOf(plan) * plan.n.extent * 4 > FAR_BYTES;
/** Blocks of tiles: few, as each reads all weights again. Blocks of panels of all of them: what threads share out evenly. */
const ENOUGH_BLOCKS = 8;
const ENOUGH_UNITS = 16;

/** What the cut into units at run time and beforehand share. */
interface Cut {
  readonly panels: number;
  /** Tiles in a block are a multiple of this, and at most `most`. */
  readonly step: number;
  readonly most: number;
  /** Blocks that few panels ask for, so that there is something to share out: of so many tiles at least. */
  readonly wanted: number;
  readonly leastTiles: number;
}

function cutOf(plan: WinogradPlan, params: Params): Cut {
  const { tile, width } = params;
  const panels = Math.ceil(plan.n.extent / width);
  const tail = plan.n.extent % width;
  const step = tail === 0 ? params.rows : leastCommonMultiple(params.rows, rowsFor(tail, params));
  const bytes = pointsOf(tile, plan.step) ** 2 * summedOf(plan) * 4;
  const room = isFar(plan, params) ? BLOCK_BYTES_FAR : BLOCK_BYTES;
  const most = Math.max(1, Math.floor(room / (bytes * step))) * step;
  return { panels, step, most, wanted: Math.ceil(ENOUGH_BLOCKS / panels), leastTiles: 2 * step };
}

/** A blocking's cut, in registers. */
export interface PresentUnits {
  readonly tilesInBlock: Reg;
  readonly panelsInBlock: Reg;
  readonly nBlocks: Reg;
  readonly units: Reg;
}

/** How `blockWinograd` cuts `tiles` that there are at run time; they may be 0. */
export function blockPresent(asm: Asm, plan: WinogradPlan, params: Params, tiles: Reg): PresentUnits {
  const { panels, step, most, wanted, leastTiles } = cutOf(plan, params);
  const c = (value: number) => asm.const('i32', value);
  const some = asm.op('max', [tiles, c(1)]);
  const shared = asm.op('min', [c(wanted), divideUp(asm, some, leastTiles)]);
  const tilesInBlock = shareOf(asm, some, asm.op('max', [divideUp(asm, some, most), shared]), step);
  const tBlocks = divideUp(asm, some, tilesInBlock);
  const parts = asm.op('min', [c(panels), divideUp(asm, c(ENOUGH_UNITS), tBlocks)]);
  const panelsInBlock = divideUp(asm, c(panels), parts);
  const nBlocks = divideUp(asm, c(panels), panelsInBlock);
  return { tilesInBlock, panelsInBlock, nBlocks, units: asm.op('mul', [tBlocks, nBlocks]) };
}

export function blockWinograd(plan: WinogradPlan, params: Params): WinogradBlocking {
  const { tile, width, lanes } = params;
  const points = pointsOf(tile, plan.step) ** 2;
  const k = summedOf(plan);
  const across = Math.ceil(plan.x.axis.extent / tile);
  const down = Math.ceil(plan.y.axis.extent / tile);
  const outer = outerAxes(plan);
  const tiles = outer.reduce((count, axis) => count * axis.extent, across * down);
  const { panels, step, most, wanted, leastTiles } = cutOf(plan, params);
  const blocks = Math.max(Math.ceil(tiles / most), Math.min(wanted, Math.ceil(tiles / leastTiles)));
  const tilesInBlock = blocks === 1 ? tiles : Math.ceil(tiles / blocks / step) * step;
  // Where fewer tiles may be there than at most, a block of them may be as large as the cache takes.
  const room = isOpen(plan) ? Math.min(most, Math.ceil(tiles / step) * step) : tilesInBlock;
  const tBlocks = Math.ceil(tiles / tilesInBlock);
  const panelsInBlock = Math.ceil(panels / Math.min(panels, Math.ceil(ENOUGH_UNITS / tBlocks)));
  const lines = Math.ceil((room * k * 4) / LINE_BYTES);
  const planeBytes = (lines % 2 === 0 ? lines + 1 : lines) * LINE_BYTES;
  const coordsAt = points * lanes * 4;
  const coordBytes = room * (outer.length + 2) * 4;
  const inputsAt = coordsAt + Math.ceil(coordBytes / LINE_BYTES) * LINE_BYTES;
  const sumsAt = inputsAt + points * planeBytes;
  return {
    across,
    down,
    tiles,
    panels,
    tilesInBlock,
    panelsInBlock,
    tBlocks,
    nBlocks: Math.ceil(panels / panelsInBlock),
    planeBytes,
    coordsAt,
    inputsAt,
    sumsAt,
    scratchBytes: sumsAt + room * points * width * 4,
  };
}

function leastCommonMultiple(a: number, b: number): number {
  let [x, y] = [a, b];
  while (y > 0) [x, y] = [y, x % y];
  return (a * b) / x;
}
