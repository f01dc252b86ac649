import { expect, test } from 'vitest';
import { randomTensor } from '../core/random-tensor.ts';
import { toNumbers } from '../core/tensor.ts';
import { graphBuilder } from '../graph/build.ts';
import { OPS } from '../ops/all.ts';
import { sampleInputs } from './sample-inputs.ts';

test('tokens are drawn from all of the tables they pick from, also behind views and casts; other integers are 0 or 1', () => {
  const b = graphBuilder('net', OPS);
  const tokens = b.input('tokens', 'i32', [2, 300]);
  const mask = b.input('mask', 'i64', [2, 300]);
  const x = b.input('x', 'f32', [600]);
  const wide = b.node('Cast', [tokens], { attrs: { to: 'i64' } })[0];
  const flat = b.node('Reshape', [wide, b.constant({ dtype: 'i64', shape: [1], data: BigInt64Array.of(600n) })])[0];
  const embedded = b.node('Gather', [b.constant(randomTensor({ dtype: 'f32', shape: [1000, 3] }, 0, 1)), flat])[0];
  b.node('Gather', [b.constant(randomTensor({ dtype: 'f32', shape: [3, 700] }, 0, 1)), wide], { attrs: { axis: -1 } });
  const masked = b.node('Add', [mask, wide])[0];
  for (const output of [embedded, masked, x]) b.output(b.node('Identity', [output])[0]);
  const inputs = sampleInputs(b.finish(), OPS);
  const numbers = (name: string): number[] => Array.from(toNumbers(inputs.get(name)!));
  expect(Math.max(...numbers('tokens'))).toBeGreaterThan(600);
  expect(Math.max(...numbers('tokens'))).toBeLessThan(700);
  expect(Math.min(...numbers('tokens'))).toBeGreaterThanOrEqual(0);
  expect(new Set(numbers('mask'))).toEqual(new Set([0, 1]));
  expect(Math.min(...numbers('x'))).toBeLessThan(0);
});
