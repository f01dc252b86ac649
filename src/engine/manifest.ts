/**
 * The manifest section: all of an engine but its kernels, weights' bytes, code and graph, as JSON with keys in a fixed order.
 */
import { DTYPES, type DType } from '../core/dtype.ts';
import { Bug } from '../core/errors.ts';
import type { Dim, DimTerm, SymDim } from '../core/shape.ts';
import type {
  Binding,
  BufferRef,
  Engine,
  EngineSizes,
  PackedAxis,
  Packing,
  Profile,
  Step,
  TargetName,
  Weight,
} from './engine.ts';
import {
  byKind,
  type Check,
  integer,
  list,
  nullable,
  number,
  oneOf,
  optional,
  record,
  table,
  text,
  truth,
} from './shape-of-json.ts';

export type Manifest = Pick<
  Engine,
  | 'name'
  | 'target'
  | 'builtBy'
  | 'machine'
  | 'precision'
  | 'inputs'
  | 'outputs'
  | 'steps'
  | 'weights'
  | 'arenaBytes'
  | 'sizes'
  | 'profiles'
>;

const TARGETS: Readonly<Record<TargetName, true>> = {
  reference: true,
  wasm: true,
  x64: true,
  cuda: true,
  webgpu: true,
};
const MOST_DIMS = 64;
/** A size may be a sum over many: the detections of each class. */
const MOST_TERMS = 1 << 12;
const LARGEST_DIM = 2 ** 31 - 1;
const LARGEST_TILE = 16;

const bytes = integer(0);
const dtype = oneOf(...(Object.keys(DTYPES) as DType[]));
const shape = list(integer(0, LARGEST_DIM), MOST_DIMS);
const buffer: Check<BufferRef> = record({ space: oneOf('arena', 'weights'), byteOffset: bytes, bytes });
const bindingInFile = record({
  name: text,
  dtype,
  shape,
  words: optional(list(nullable(integer(0)), MOST_DIMS)),
  buffer,
});
const binding: Check<Binding> = (value, path) => {
  const { words, ...plain } = bindingInFile(value, path);
  return words ? { ...plain, words: words.map((w) => w ?? null) } : plain;
};
const MOST_NESTED = 32;
const formula: Check<Dim> = (value, path) => formulaWithin(MOST_NESTED)(value, path);
const formulaWithin =
  (depth: number): Check<Dim> =>
  (value, path) =>
    typeof value === 'number' || depth === 0
      ? integer(-LARGEST_DIM, LARGEST_DIM)(value, path)
      : openDim(depth)(value, path);
const openDim = (depth: number): Check<SymDim> => {
  const inner = formulaWithin(depth - 1);
  const of = record({ op: oneOf('mul', 'floordiv', 'min', 'max'), a: inner, b: inner });
  const term = record({ name: text, coef: integer(-LARGEST_DIM, LARGEST_DIM), of: optional(of) });
  const terms: Check<DimTerm> = (value, path) => {
    const { of: made, ...plain } = term(value, path);
    return made ? { ...plain, of: made } : plain;
  };
  return record({ terms: list(terms, MOST_TERMS), constant: integer(-LARGEST_DIM, LARGEST_DIM) });
};
const sizesInFile = record({
  buffer,
  formulas: list(formula),
  data: optional(list(record({ name: text, atMost: formula }))),
});
const sizes: Check<EngineSizes> = (value, path) => {
  const { data, ...plain } = sizesInFile(value, path);
  return { ...plain, data: data ?? [] };
};
const profile: Check<Profile> = record({
  inputs: list(record({ name: text, min: shape, opt: shape, max: shape })),
  step: integer(1, LARGEST_DIM),
});
const size = integer(0, LARGEST_DIM);
const packedAxes = list(
  record({ extent: integer(1, LARGEST_DIM), stride: integer(-LARGEST_DIM, LARGEST_DIM) }),
  MOST_DIMS,
);
const packing: Check<Packing> = byKind({
  panels: record({
    kind: oneOf('panels'),
    width: integer(1, LARGEST_DIM),
    batch: size,
    k: size,
    n: size,
    zeros: size,
  }),
  winograd: record({
    kind: oneOf('winograd'),
    tile: integer(1, LARGEST_TILE),
    step: integer(1, 2),
    width: integer(1, LARGEST_DIM),
    k: size,
    n: size,
  }),
  groups: record({
    kind: oneOf('groups'),
    width: integer(1, LARGEST_DIM),
    per: integer(1, LARGEST_DIM),
    taps: size,
    n: size,
  }),
  rows: record({
    kind: oneOf('rows'),
    rows: packedAxes,
    k: packedAxes,
    offset: size,
    pitch: integer(1, LARGEST_DIM),
    tf32: truth,
  }),
  bytes: record({
    kind: oneOf('bytes'),
    width: integer(1, LARGEST_DIM),
    batch: size,
    outer: size,
    run: size,
    n: size,
    step: integer(1, LARGEST_DIM),
    starts: truth,
    zeros: size,
  }),
  words: record({ kind: oneOf('words'), width: integer(1, LARGEST_DIM), k: size, n: size }),
});
const weightInFile = record({ name: text, dtype, shape, byteOffset: bytes, bytes, packing: nullable(packing) });
const weight: Check<Weight> = (value, path) => {
  const { packing, ...plain } = weightInFile(value, path);
  return packing ? { ...plain, packing } : plain;
};
const tactic = record({ template: text, params: table(number), predictedNs: number });
const stepInFile = record({
  kernel: integer(0),
  tactic,
  buffers: list(buffer),
  values: list(text),
  shapes: nullable(list(shape)),
  loc: list(text),
  tiles: integer(0, LARGEST_DIM),
  maxThreads: integer(1, LARGEST_DIM),
  scratchBytes: integer(0, LARGEST_DIM),
  barrier: truth,
  flops: number,
  bytesMoved: number,
});
const step: Check<Step> = (value, path) => {
  const { shapes, scratchBytes, ...plain } = stepInFile(value, path);
  return { ...plain, ...(shapes && { shapes }), ...(scratchBytes > 0 && { scratchBytes }) };
};
const manifestInFile = record({
  name: text,
  target: oneOf(...(Object.keys(TARGETS) as TargetName[])),
  builtBy: text,
  machine: list(text),
  precision: text,
  inputs: list(binding),
  outputs: list(binding),
  steps: list(step),
  weights: list(weight),
  arenaBytes: bytes,
  sizes: optional(sizes),
  profiles: optional(list(profile)),
});
const manifest: Check<Manifest> = (value, path) => {
  const { sizes, profiles, ...plain } = manifestInFile(value, path);
  return { ...plain, ...(sizes && { sizes }), ...(profiles && { profiles }) };
};

/** Throws ModelError `engine-parse` with the path of the first value that does not fit. */
export const readManifest = (json: unknown): Manifest => manifest(json, '');

export function writeManifest(engine: Engine): string {
  return JSON.stringify(
    {
      name: engine.name,
      target: engine.target,
      builtBy: engine.builtBy,
      machine: engine.machine,
      precision: engine.precision,
      inputs: engine.inputs.map(bindingToJson),
      outputs: engine.outputs.map(bindingToJson),
      steps: engine.steps.map(stepToJson),
      weights: engine.weights.map(weightToJson),
      arenaBytes: engine.arenaBytes,
      ...(engine.sizes && { sizes: sizesToJson(engine.sizes) }),
      ...(engine.profiles && { profiles: engine.profiles }),
    },
    (key, value: unknown) => {
      if (typeof value === 'number' && !Number.isFinite(value)) throw new Bug('engine-number', `${key} is ${value}`);
      return value;
    },
  );
}

const bufferToJson = ({ space, byteOffset, bytes }: BufferRef) => ({ space, byteOffset, bytes });
const sizesToJson = ({ buffer, formulas, data }: EngineSizes) => ({
  buffer: bufferToJson(buffer),
  formulas,
  ...(data.length > 0 && { data }),
});
const bindingToJson = (b: Binding) => ({
  name: b.name,
  dtype: b.dtype,
  shape: b.shape,
  ...(b.words && { words: b.words }),
  buffer: bufferToJson(b.buffer),
});

const weightToJson = (w: Weight) => ({
  name: w.name,
  dtype: w.dtype,
  shape: w.shape,
  byteOffset: w.byteOffset,
  bytes: w.bytes,
  packing: w.packing ? packingToJson(w.packing) : null,
});

const axisToJson = ({ extent, stride }: PackedAxis) => ({ extent, stride });
function packingToJson(p: Packing): Packing {
  switch (p.kind) {
    case 'panels':
      return { kind: p.kind, width: p.width, batch: p.batch, k: p.k, n: p.n, zeros: p.zeros };
    case 'winograd':
      return { kind: p.kind, tile: p.tile, step: p.step, width: p.width, k: p.k, n: p.n };
    case 'groups':
      return { kind: p.kind, width: p.width, per: p.per, taps: p.taps, n: p.n };
    case 'rows': {
      const { kind, offset, pitch, tf32 } = p;
      return { kind, rows: p.rows.map(axisToJson), k: p.k.map(axisToJson), offset, pitch, tf32 };
    }
    case 'bytes': {
      const { kind, width, batch, outer, run, n, step, starts, zeros } = p;
      return { kind, width, batch, outer, run, n, step, starts, zeros };
    }
    case 'words':
      return { kind: p.kind, width: p.width, k: p.k, n: p.n };
    default:
      return p satisfies never;
  }
}

const stepToJson = (s: Step) => ({
  kernel: s.kernel,
  tactic: {
    template: s.tactic.template,
    params: Object.fromEntries(Object.entries(s.tactic.params).sort(([a], [b]) => (a < b ? -1 : 1))),
    predictedNs: s.tactic.predictedNs,
  },
  buffers: s.buffers.map(bufferToJson),
  values: s.values,
  shapes: s.shapes ?? null,
  loc: s.loc,
  tiles: s.tiles,
  maxThreads: s.maxThreads,
  scratchBytes: s.scratchBytes ?? 0,
  barrier: s.barrier,
  flops: s.flops,
  bytesMoved: s.bytesMoved,
});
