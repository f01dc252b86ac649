/** Programs that torch.export wrote (PyTorch 2.11), against what PyTorch answered: by the definition, and as wasm code. */
import { describe, expect, test } from 'vitest';
import { build } from '../../src/build.ts';
import { typedView } from '../../src/core/bytes.ts';
import { DTYPES, type DType, isFloat, type TypedArray } from '../../src/core/dtype.ts';
import { ModelError } from '../../src/core/errors.ts';
import { type Tensor, tensor, toNumbers } from '../../src/core/tensor.ts';
import { bindShapes } from '../../src/graph/bind.ts';
import { evalGraph } from '../../src/graph/eval.ts';
import type { Graph } from '../../src/graph/ir.ts';
import { OPS } from '../../src/ops/all.ts';
import { wasmDevice } from '../../src/targets/wasm/device.ts';
import { readTorch } from '../../src/torch/read.ts';
import { openZip } from '../../src/torch/zip.ts';
import { hash } from '../random.ts';
import { fixture } from './fixtures.ts';
import { zipOf } from './handmade.ts';

interface Recorded {
  readonly dtype: string;
  readonly shape: readonly number[];
  readonly data: string;
}

const NAMES: Readonly<Record<string, DType>> = {
  float32: 'f32',
  float16: 'f16',
  int64: 'i64',
  bool: 'bool',
};

function recorded({ dtype, shape, data }: Recorded): Tensor {
  const name = NAMES[dtype];
  return tensor(name, shape, typedView(DTYPES[name].array, new Uint8Array(Buffer.from(data, 'base64'))));
}

interface Run {
  readonly inputs: readonly Tensor[];
  readonly outputs: readonly Tensor[];
}

function readRun(name: string): Run {
  const run = JSON.parse(new TextDecoder().decode(fixture(`${name}.json`))) as Record<'inputs' | 'outputs', Recorded[]>;
  return { inputs: run.inputs.map(recorded), outputs: run.outputs.map(recorded) };
}

/** float32 on both sides: a few roundings of sums of tens of terms, relative to the output's largest element. */
const TOLERANCE: Partial<Record<DType, number>> = { f32: 2e-6, f16: 4e-3 };

function expectClose(got: Tensor, want: Tensor, label: string): void {
  expect({ dtype: got.dtype, shape: got.shape }, label).toEqual({ dtype: want.dtype, shape: want.shape });
  const [a, b] = [toNumbers(got), toNumbers(want)];
  if (!isFloat(want.dtype)) expect(Array.from(a), label).toEqual(Array.from(b));
  let [worst, largest] = [0, 1e-30];
  for (let i = 0; i < b.length; i++) {
    if (Number.isFinite(b[i])) largest = Math.max(largest, Math.abs(b[i]));
    if (!Object.is(a[i], b[i])) worst = Math.max(worst, Math.abs(a[i] - b[i]));
  }
  expect(worst / largest, label).toBeLessThan(TOLERANCE[want.dtype] ?? Number.MIN_VALUE);
}

async function runOnWasm(graph: Graph, inputs: ReadonlyMap<string, Tensor>): Promise<Tensor[]> {
  const { engine } = await build(graph, { target: 'wasm' });
  const open = await wasmDevice.open(engine, { threads: 1, onWarning: () => {} });
  try {
    const context = open.createContext();
    for (const [i, { name }] of engine.inputs.entries()) context.inputs[i].set(inputs.get(name)?.data as never);
    context.execute();
    return engine.outputs.map((o, i) => tensor(o.dtype, o.shape, context.outputs[i].slice() as TypedArray));
  } finally {
    open.dispose();
  }
}

const PROGRAMS = [
  'resnet',
  'resnet-decomposed',
  'resnet-batch',
  'mobile',
  'half',
  'vit',
  'vit-decomposed',
  'vit-batch',
  'convnext',
  'seg',
  'seg-decomposed',
  'tokens',
  'tokens-decomposed',
  'math',
  'math-decomposed',
  'rows',
  'rnn',
  'encoder',
  'shuffle',
  'simple',
  'swin',
  'swin2',
];

describe.each(PROGRAMS)('%s', (name) => {
  const { inputs, outputs } = readRun(name);
  const { graph } = readTorch(fixture(`${name}.pt2`), { ops: OPS });
  const named = new Map(graph.inputs.map((input, i) => [input, inputs[i]]));
  const bound = bindShapes(
    graph,
    OPS,
    Object.fromEntries([...named].map(([input, { shape }]) => [input, shape])),
    () => {},
  );

  test('answers as PyTorch did, by the definition', () => {
    const got = [...evalGraph(bound, OPS, named).values()];
    expect(got.length).toBe(outputs.length);
    for (const [i, want] of outputs.entries()) expectClose(got[i], want, `output ${i} ${graph.outputs[i]}`);
  });

  test('answers as PyTorch did, as wasm code', async () => {
    const got = await runOnWasm(bound, named);
    for (const [i, want] of outputs.entries()) expectClose(got[i], want, `output ${i} ${graph.outputs[i]}`);
  });
});

function thrown(work: () => unknown): ModelError {
  try {
    work();
  } catch (error) {
    if (error instanceof ModelError) return error;
    throw error;
  }
  throw new Error('nothing was thrown');
}

const readBytes = (bytes: Uint8Array) => readTorch(bytes, { ops: OPS });
const encode = (text: string): Uint8Array => new TextEncoder().encode(text);

/** The entries of an archive, with its program's text changed. */
function withProgram(name: string, change: (text: string) => string): Uint8Array {
  const zip = openZip(fixture(name));
  const entries = zip.names.map((entry): [string, Uint8Array] => {
    const bytes = zip.read(entry) as Uint8Array;
    return [entry, entry.endsWith('models/model.json') ? encode(change(new TextDecoder().decode(bytes))) : bytes];
  });
  return zipOf(Object.fromEntries(entries));
}

describe('programs that are not read', () => {
  test('operators that are not translated are listed all at once, with a way out', () => {
    const bytes = withProgram('mobile.pt2', (text) =>
      text.replaceAll('aten.hardswish_.', 'aten.bernoulli_.').replaceAll('ops.aten.silu.', 'ops.mine.silu.'),
    );
    const error = thrown(() => readBytes(bytes));
    expect(error.code).toBe('torch-unsupported');
    expect(error.details).toEqual([
      expect.stringMatching(/^aten\.bernoulli_\.default \("hardswish_"\)/),
      expect.stringMatching(/^mine\.silu\.default/),
    ]);
    expect(error.hint).toContain('run_decompositions');
  });

  test('a form of an operator that is not translated names its node', () => {
    const error = thrown(() =>
      readBytes(
        withProgram('rows.pt2', (text) => text.replace(/("name": ?"train", ?"arg": ?\{"as_bool": ?)false/, '$1true')),
      ),
    );
    expect([error.code, error.message]).toEqual(['torch-unsupported', expect.stringMatching(/lstm.*training mode/)]);
  });

  test('what is changed in place is changed under all its names', () => {
    const node = (target: string, input: string, output: string, more = ''): string =>
      `{"target":"torch.ops.aten.${target}","inputs":[{"name":"self","arg":{"as_tensor":{"name":"${input}"}},"kind":1}${more}],"outputs":[{"as_tensor":{"name":"${output}"}}],"metadata":{}}`;
    const ints = (name: string, values: string): string => `,{"name":"${name}","arg":{"as_ints":[${values}]},"kind":1}`;
    const int = (name: string, value: number): string => `,{"name":"${name}","arg":{"as_int":${value}},"kind":1}`;
    const type = '{"dtype":7,"sizes":[{"as_int":2},{"as_int":2}]}';
    const row = '{"dtype":7,"sizes":[{"as_int":2}]}';
    /** y = -x; turned = yᵀ; row = turned[1]; copied = reshape(y); one of them is written; out = |one of them|. */
    const outOf = (written: string, read: string): number[] => {
      const nodes = [
        node('neg.default', 'x', 'y'),
        node('permute.default', 'y', 'turned', ints('dims', '1,0')),
        node('select.int', 'turned', 'row', int('dim', 0) + int('index', 1)),
        node('reshape.default', 'y', 'copied', ints('shape', '2,2')),
        node('relu_.default', written, 'after'),
        node('abs.default', read, 'out'),
      ];
      const isRow = (name: string): boolean => name === 'row' || (name === 'after' && written === 'row');
      const types = ['x', 'y', 'turned', 'row', 'copied', 'after'].map(
        (name) => `"${name}":${isRow(name) ? row : type}`,
      );
      types.push(`"out":${isRow(read) ? row : type}`);
      const program = `{"schema_version":{"major":8,"minor":1},"graph_module":{"graph":{"nodes":[${nodes}],"tensor_values":{${types}}},"signature":{"input_specs":[{"user_input":{"arg":{"as_tensor":{"name":"x"}}}}],"output_specs":[{"user_output":{"arg":{"as_tensor":{"name":"out"}}}}]}}}`;
      const { graph } = readBytes(zipOf({ 'p/models/model.json': encode(program) }));
      const x = tensor('f32', [2, 2], new Float32Array([1, 2, 3, -4]));
      const [out] = evalGraph(graph, OPS, new Map([['x', x]])).values();
      return Array.from(toNumbers(out));
    };
    // y is [[-1, -2], [-3, 4]], so turned is [[-1, -3], [-2, 4]] and row [-2, 4].
    for (const name of ['y', 'after']) expect(outOf('y', name), name).toEqual([0, 0, 0, 4]);
    expect(outOf('y', 'turned')).toEqual([0, 0, 0, 4]);
    expect(outOf('y', 'row')).toEqual([0, 4]);
    expect(outOf('row', 'y')).toEqual([1, 0, 3, 4]);
    expect(outOf('row', 'turned')).toEqual([1, 3, 0, 4]);
    expect(outOf('row', 'after')).toEqual([0, 4]);
    expect(outOf('turned', 'row')).toEqual([0, 4]);
    expect(outOf('turned', 'y')).toEqual([0, 0, 0, 4]);
    expect(outOf('copied', 'after')).toEqual([0, 0, 0, 4]);
    // Whether a reshape shares memory only strides tell.
    for (const [written, read] of [
      ['y', 'copied'],
      ['copied', 'y'],
      ['row', 'copied'],
      ['copied', 'row'],
    ]) {
      const error = thrown(() => outOf(written, read));
      expect([error.code, error.message]).toEqual(['torch-unsupported', expect.stringContaining(`"${read}"`)]);
    }
  });

  test('archives of older releases hold the same program', () => {
    const zip = openZip(fixture('resnet.pt2'));
    const program = zip.read('resnet/models/model.json') as Uint8Array;
    const { graph } = readBytes(
      zipOf({
        'serialized_exported_program.json': program,
        'serialized_state_dict.pt': fixture('ckpt.pth'),
        version: encode('1.1'),
      }),
    );
    const { inputs, outputs } = readRun('resnet');
    const [out] = evalGraph(graph, OPS, new Map([['x', inputs[0]]])).values();
    expectClose(out, outputs[0], 'output');
  });

  test.each<readonly [string, (text: string) => string, RegExp]>([
    ['another version', (text) => text.replace(/"major": ?8/, '"major": 9'), /version 9/],
    ['no JSON', (text) => text.slice(0, 1000), /no JSON/],
    ['nested too deep', () => '['.repeat(1e6), /no JSON/],
    ['no graph', () => '{"schema_version":{"major":8}}', /graph_module is no object/],
  ])('%s is an error', (_, change, message) => {
    expect(thrown(() => readBytes(withProgram('convnext.pt2', change))).message).toMatch(message);
  });

  test('an architecture is no option of a program', () => {
    expect(thrown(() => readTorch(fixture('vit.pt2'), { ops: OPS, arch: 'vit_b_16' })).code).toBe('option-invalid');
  });

  test('every damage to a program is one ModelError, or harmless', () => {
    let drawn = 0;
    const below = (n: number): number => Math.floor(hash(11, drawn++) * n);
    let refused = 0;
    for (const name of ['convnext.pt2', 'seg.pt2', 'tokens.pt2']) {
      for (let round = 0; round < 60; round++) {
        const bytes = withProgram(name, (text) => damaged(text, below));
        try {
          readBytes(bytes);
        } catch (error) {
          if (!(error instanceof ModelError))
            throw new Error(`${name}, round ${round}: ${String(error)}`, { cause: error });
          refused++;
        }
      }
    }
    expect(refused).toBeGreaterThan(60);
  });
});

/** Numbers, names and kinds of a JSON text exchanged for others; it stays JSON. */
function damaged(text: string, below: (n: number) => number): string {
  const values = ['-1', '0', '3', '9007199254740993', '1e300', '"x"', 'null', '[]', '{}', 'true'];
  const kinds = ['as_int', 'as_ints', 'as_tensor', 'as_none', 'as_bool', 'as_float', 'as_string', 'as_tensors'];
  const matches = [...text.matchAll(/(?<=: ?)-?\d+(?=[,}\]])|"as_\w+"|(?<="name": ?)"\w+"/g)];
  let out = text;
  for (let i = below(3); i >= 0; i--) {
    const { index, 0: found } = matches[below(matches.length)];
    const other = found.startsWith('"as_')
      ? `"${kinds[below(kinds.length)]}"`
      : found.startsWith('"')
        ? matches[below(matches.length)][0].replace(/^-?\d+$/, '"y"')
        : values[below(values.length)];
    if (out.slice(index, index + found.length) === found)
      out = out.slice(0, index) + other.padEnd(found.length) + out.slice(index + found.length);
  }
  return out;
}
