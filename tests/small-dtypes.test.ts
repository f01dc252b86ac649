/**
 * Dtypes of 8 bits and fewer from end to end: through operators that move elements, inside of graphs against onnxruntime, in engine files,
 * fused behind a product. And where wider integers end, on every target.
 */
import { describe, expect, it, test } from 'vitest';
import { DTYPES, type DType, isFloat } from '../src/core/dtype.ts';
import { fromNumbers, type Tensor, toNumbers } from '../src/core/tensor.ts';
import type { TargetName } from '../src/engine/engine.ts';
import { type GraphBuilder, graphBuilder } from '../src/graph/build.ts';
import { evalGraph } from '../src/graph/eval.ts';
import { OPS } from '../src/ops/all.ts';
import { SMALL } from '../src/ops/elementwise.ts';
import { x64Device } from '../src/targets/x64/device.ts';
import { GPU, INTERPRETS } from './cuda/gpu-here.ts';
import { runOnTarget } from './engine-runner.ts';
import { runGraph } from './onnxruntime.ts';
import { runInterpreted } from './ptx/run-engine.ts';
import { CHIPS } from './ptx/run-kernel.ts';
import { runOnGpu } from './ptx/run-on-gpu.ts';
import { randomTensor } from './random.ts';

const { available } = await x64Device.probe();
const TARGETS = ['reference', 'wasm', ...(available ? ['x64' as const] : [])] as const satisfies readonly TargetName[];
const RUNNERS = [
  ...TARGETS.map((name) => [name, runOnTarget(name)] as const),
  ...(INTERPRETS ? [['cuda, interpreted', runInterpreted(CHIPS[2])] as const] : []),
  ...(GPU ? [['cuda', runOnGpu] as const] : []),
];

const SPECIAL = [Number.NaN, Number.POSITIVE_INFINITY, Number.NEGATIVE_INFINITY];

/** Every bit pattern, or random values of them, in so many elements. */
function bitPatterns(dtype: DType, shape: readonly number[]): Tensor {
  const { array, bits = 8, min } = DTYPES[dtype];
  const count = shape.reduce((a, b) => a * b, 1);
  const first = isFloat(dtype) ? 0 : Number(min);
  const data = new array(count);
  for (let i = 0; i < count; i++) data[i] = (first + ((i * 37 + 11) % 2 ** bits)) as never;
  return { dtype, shape, data };
}

function graphOf(inputs: Readonly<Record<string, Tensor>>, write: (b: GraphBuilder) => readonly string[]) {
  const b = graphBuilder('small', OPS);
  for (const [name, t] of Object.entries(inputs)) b.input(name, t.dtype, t.shape);
  for (const name of write(b)) b.output(name);
  return { graph: b.finish(), inputs: new Map(Object.entries(inputs)) };
}

describe.each(RUNNERS)('%s', (_name, run) => {
  test.each(SMALL)('%s is moved bit by bit', async (dtype) => {
    const { graph, inputs } = graphOf({ x: bitPatterns(dtype, [2, 3, 43]), y: bitPatterns(dtype, [1, 3, 43]) }, (b) => {
      const indices = b.constant({ dtype: 'i64', shape: [3], data: BigInt64Array.of(2n, 0n, 2n) });
      const shape = b.constant({ dtype: 'i64', shape: [2], data: BigInt64Array.of(43n, -1n) });
      const all = b.node('Concat', ['x', 'y'], { attrs: { axis: 0 } })[0];
      const picked = b.node('Gather', [all, indices], { attrs: { axis: 1 } })[0];
      const turned = b.node('Transpose', [picked], { attrs: { perm: [2, 0, 1] } })[0];
      return [turned, b.node('Reshape', [turned, shape])[0]];
    });
    const expected = evalGraph(graph, OPS, inputs);
    const actual = (await run(graph, inputs))!;
    for (const [name, value] of expected) {
      expect(actual.get(name)!.dtype).toBe(dtype);
      expect([...actual.get(name)!.data]).toEqual([...value.data]);
    }
  });

  test.each(['f8e4m3fn', 'f8e5m2', 'f4e2m1', 'i4', 'u4'] as const)('%s behind a product', async (dtype) => {
    const a = randomTensor('f32', [5, 19], 1, [-3, 3]);
    const w = randomTensor('f32', [19, 23], 2, [-1, 1]);
    const { graph, inputs } = graphOf({ a }, (b) => {
      const product = b.node('MatMul', ['a', b.constant(w)])[0];
      const scale = b.constant(fromNumbers('f32', [], [0.37]));
      const q = b.node('QuantizeLinear', [product, scale], { attrs: { output_dtype: dtype } })[0];
      return [q, b.node('DequantizeLinear', [q, scale])[0]];
    });
    const expected = evalGraph(graph, OPS, inputs);
    const actual = (await run(graph, inputs))!;
    for (const [name, value] of expected) expect([...actual.get(name)!.data]).toEqual([...value.data]);
  });
});

describe.each(RUNNERS)('%s, wider integers', (_name, run) => {
  const INTEGERS = ['i8', 'u8', 'i16', 'u16', 'i32', 'i64'] as const;
  test.each(INTEGERS.flatMap((to) => (['f32', 'f64'] as const).map((from) => [from, to] as const)))(
    '%s to %s truncates, saturates and makes NaN 0',
    async (from, to) => {
      const ends = [127.9, 128, 255.9, 256, 32767.9, 65535.9, 65536, 2 ** 31 - 1, 2 ** 31, 2 ** 53 + 2, 2 ** 63, 1e30];
      const xs = [...SPECIAL, 0.9, ...ends].flatMap((x) => [x, -x]);
      const { graph, inputs } = graphOf({ x: fromNumbers(from, [xs.length], xs) }, (b) =>
        b.node('Cast', ['x'], { attrs: { to } }),
      );
      const [[name, expected]] = evalGraph(graph, OPS, inputs);
      expect([...(await run(graph, inputs))!.get(name)!.data]).toEqual([...expected.data]);
      const { min, max } = DTYPES[to];
      expect([...expected.data].slice(0, 6).map(Number)).toEqual([0, 0, max, min, min, max].map(Number));
    },
  );

  test('i64 keeps every digit beyond 2^53, and wraps at 2^64', async () => {
    const xs = [2n ** 53n + 1n, -(2n ** 53n) - 1n, 2n ** 62n + 3n, -(2n ** 63n), 2n ** 31n, 7n];
    const x: Tensor = { dtype: 'i64', shape: [xs.length], data: BigInt64Array.from(xs) };
    const { graph, inputs } = graphOf({ x }, (b) => {
      const c = (v: bigint) => b.constant({ dtype: 'i64', shape: [], data: BigInt64Array.of(v) });
      const ops = [
        ['Add', 1n],
        ['Sub', 5n],
        ['Mul', 3n],
        ['Div', 7n],
        ['Mod', 10n],
      ] as const;
      return ops.map(([op, v]) => b.node(op, ['x', c(v)])[0]);
    });
    const actual = (await run(graph, inputs))!;
    const wrap = (v: bigint) => BigInt.asIntN(64, v);
    const mod = (v: bigint) => ((v % 10n) + 10n) % 10n;
    const wanted = [(v: bigint) => v + 1n, (v: bigint) => v - 5n, (v: bigint) => v * 3n, (v: bigint) => v / 7n, mod];
    graph.outputs.forEach((name, i) => {
      expect([...actual.get(name)!.data], `output ${i}`).toEqual(xs.map((v) => wrap(wanted[i](v))));
    });
  });
});

/** Where onnxruntime decides otherwise on what ONNX leaves open, or errs: values that are left out. */
const APART: { readonly [D in DType]?: (x: number, saturate: boolean) => boolean } = {
  // It rounds halves away from zero, and its NaN and infinities differ by processor.
  ...Object.fromEntries(
    (['i4', 'u4'] as const).map((d) => [
      d,
      (x: number) => !Number.isFinite(x) || Math.abs(x % 1) === 0.5 || Math.abs(x) > 1e9,
    ]),
  ),
  // 480 and its like become 448 without saturation, beyond the largest.
  f8e4m3fn: (x, saturate) => !saturate && Math.abs(x) >= 464 && Math.abs(x) <= 512,
  // Without saturation a mantissa that carries into the exponent of infinity becomes NaN.
  f8e5m2: (x, saturate) => !saturate && Math.abs(x) >= 61440 && Math.abs(x) < 65536 * 1.125,
};

const VALUES = [
  ...[0, 0.5, 1, 1.5, 2.5, 3.3, 5, 7.75, 15.9, 17, 239, 241, 247, 249, 447, 449, 500, 57344, 61439, 61441, 1e6, 1e30],
  ...[1e-3, 2 ** -9, 3 * 2 ** -11, 2 ** -10, 2 ** -16, 2 ** -17, 2 ** -18, 1e-30],
];

describe('Cast as onnxruntime does it', () => {
  const kinds = ['i4', 'u4', 'f8e4m3fn', 'f8e4m3fnuz', 'f8e5m2', 'f8e5m2fnuz'] as const;
  it.each(
    kinds.flatMap((dtype) => (isFloat(dtype) ? [true, false] : [true]).map((saturate) => [dtype, saturate] as const)),
  )('%s, saturate %s', async (dtype, saturate) => {
    const random = Array.from(toNumbers(randomTensor('f32', [400], 7, [-9, 9])), (x) => x * 2 ** (Math.abs(x) * 2 - 6));
    const all = [...VALUES, ...VALUES.map((x) => -x), ...SPECIAL, ...random].map(Math.fround);
    const xs = all.filter((x) => !APART[dtype]?.(x, saturate));
    const { graph, inputs } = graphOf({ x: fromNumbers('f32', [xs.length], xs) }, (b) => {
      const [cast] = b.node('Cast', ['x'], { attrs: { to: dtype, saturate } });
      return b.node('Cast', [cast], { attrs: { to: 'f32' } });
    });
    const [[name, ours]] = evalGraph(graph, OPS, inputs);
    const theirs = (await runGraph(graph, inputs, OPS)).get(name)!;
    const differing = xs.filter((_, i) => !Object.is(ours.data[i], theirs.data[i]) && ours.data[i] !== theirs.data[i]);
    expect(differing).toEqual([]);
  });
});
