/**
 * The template of tensor-core products: which contracts it takes, its rows of parameters and their cost, packing, launch.
 */
import { Bug } from '../../core/errors.ts';
import type { Kernel } from '../../loop/ir.ts';
import type { KernelFacts, Params } from '../target.ts';
import { CLUSTERS, LEAST_TENSOR_CORES, sharedBytesOf, WARPGROUPS } from './chip-features.ts';
import { blocksOf, predictGemmNs } from './gemm-cost.ts';
import { emitGemm } from './gemm-emit.ts';
import { rowsPacking } from './gemm-packing.ts';
import { type GemmShape, gemmShape, sharedBytes, type TileParams, tileRows } from './gemm-tiles.ts';
import { bufferArgs, type CudaTemplate } from './template.ts';

interface GemmParams extends TileParams {
  /** 1: b is packed. */
  readonly packed: number;
  /** 1: a is gathered element by element, 2: b, 3: both. */
  readonly gathered: number;
}

export const tensorCores: CudaTemplate = {
  name: 'tensor-cores',
  form: 'contract',
  candidates: (kernel, facts, features) => {
    const sharedBytesPerBlock = sharedBytesOf(features);
    const shape = features.includes(LEAST_TENSOR_CORES) ? gemmShape(kernel, facts) : undefined;
    if (!shape || sharedBytesPerBlock === undefined) return [];
    const kinds = {
      packed: shape.b === 'packed' ? 1 : 0,
      gathered: (shape.a === 'gathered' ? 1 : 0) + (shape.b === 'gathered' ? 2 : 0),
    };
    const rows = tileRows(shape, {
      sharedBytesPerBlock,
      clusters: features.includes(CLUSTERS),
      warpgroups: features.includes(WARPGROUPS),
    });
    return rows.map((row) => ({ ...row, ...kinds }));
  },
  predictNs: (kernel, params) => predictGemmNs(kernel, shapeOf(kernel, params), rowOf(params)),
  tiles: (kernel, params) => blocksOf(shapeOf(kernel, params), rowOf(params)),
  packing: (kernel, params) => {
    const shape = shapeOf(kernel, params);
    return shape.b === 'packed' ? new Map([[shape.plan.b.buffer, rowsPacking(shape)]]) : new Map();
  },
  emit: (site) => {
    const row = rowOf(site.params);
    const { code, grid, block, cluster } = emitGemm(site, shapeOf(site.kernel, site.params), row);
    const launch = { code, grid, block, sharedBytes: sharedBytes(row), isAhead: true, args: bufferArgs(site.kernel) };
    return { launches: [cluster ? { ...launch, cluster } : launch], scratchBytes: 0 };
  },
};

const rowOf = (params: Params): GemmParams => params as unknown as GemmParams;

/** By kernel and by what the parameters say of its operands: a build asks for each of hundreds of rows. */
const shapes = new WeakMap<Kernel, Map<number, GemmShape>>();

/** The shape that the parameters were made for. */
function shapeOf(kernel: Kernel, params: Params): GemmShape {
  const { packed, gathered } = rowOf(params);
  const known = shapes.get(kernel) ?? new Map<number, GemmShape>();
  shapes.set(kernel, known);
  const key = 4 * packed + gathered;
  const shape = known.get(key) ?? makeShape(kernel, packed, gathered);
  known.set(key, shape);
  return shape;
}

function makeShape(kernel: Kernel, packed: number, gathered: number): GemmShape {
  const { form } = kernel;
  if (form.kind !== 'contract') throw new Bug('cuda-gemm', `kernel ${kernel.name} is no contract`);
  const facts: KernelFacts = {
    constant: new Set(packed ? [form.b.buffer] : []),
    tf32: true,
    unaligned: new Set([...(gathered & 1 ? [form.a.buffer] : []), ...(gathered & 2 ? [form.b.buffer] : [])]),
  };
  const shape = gemmShape(kernel, facts);
  if (!shape) throw new Bug('cuda-gemm', `kernel ${kernel.name} has no shape for tensor cores`);
  return shape;
}
