/**
 * Inputs fixed at build time: the engine has them as constants, in models read from bytes and in graphs alike.
 */
import { describe, expect, it } from 'vitest';
import { build } from '../src/build.ts';
import { ModelError } from '../src/core/errors.ts';
import { fromNumbers, toNumbers } from '../src/core/tensor.ts';
import { graphBuilder } from '../src/graph/build.ts';
import type { Graph } from '../src/graph/ir.ts';
import { writeOnnx } from '../src/onnx/write.ts';
import { OPS } from '../src/ops/all.ts';
import { runModelOn } from './engine-runner.ts';

/** y = x reshaped to `shape`, which is an input. */
function reshaping(): Graph {
  const b = graphBuilder('reshaping', OPS);
  const x = b.input('x', 'f32', [2, 3]);
  const shape = b.input('shape', 'i64', [2]);
  const [y] = b.node('Reshape', [b.node('Relu', [x])[0], shape], { outputs: ['y'] });
  b.output(y);
  return b.finish();
}

const x = fromNumbers('f32', [2, 3], [-1, 2, 3, -4, 5, 6]);
const shape = fromNumbers('i64', [2], [3, -1]);
const MODELS = [
  ['a graph', reshaping()],
  ['bytes', writeOnnx(reshaping(), { ops: OPS })],
] as const;

describe.each(MODELS)('%s', (_, model) => {
  it.each(['reference', 'wasm'] as const)('on %s', async (target) => {
    const { engine } = await build(model, { target, constants: { shape } });
    expect(engine.inputs.map((input) => input.name)).toEqual(['x']);
    const y = (await runModelOn(target, model, new Map([['x', x]]), { constants: { shape } })).get('y')!;
    expect(y.shape).toEqual([3, 2]);
    expect(Array.from(toNumbers(y))).toEqual([0, 2, 3, 0, 5, 6]);
  });

  it('refuses a name that is no input, and a value of another type', async () => {
    const fixing = (constants: Record<string, typeof x>) => build(model, { target: 'reference', constants });
    const codeOf = async (constants: Record<string, typeof x>) =>
      await fixing(constants).then(
        () => 'built',
        (error: unknown) => (error instanceof ModelError ? error.code : String(error)),
      );
    expect(await codeOf({ shape, size: shape })).toBe('input-unknown');
    expect(await codeOf({ shape: fromNumbers('i64', [3], [1, 2, 3]) })).toBe('input-mismatch');
    expect(await codeOf({ shape: fromNumbers('i32', [2], [3, 2]) })).toBe('input-mismatch');
  });
});
