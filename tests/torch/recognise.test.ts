/** State dicts told apart by keys and shapes alone, and what is said of those that do not fit. */
import { expect, test } from 'vitest';
import { ModelError } from '../../src/core/errors.ts';
import { elements } from '../../src/core/shape.ts';
import type { Tensor } from '../../src/core/tensor.ts';
import { OPS } from '../../src/ops/all.ts';
import { ARCHITECTURES } from '../../src/torch/architectures/all.ts';
import { Network } from '../../src/torch/architectures/network.ts';
import { readTorch } from '../../src/torch/read.ts';
import { recognise } from '../../src/torch/recognise.ts';
import { safetensorsOf } from './handmade.ts';

const NO_DATA = new Float32Array(0);

/** The state dict that an architecture wants, without elements: an empty one is missing all of it, name and shape. */
function wantedBy(arch: string): Map<string, Tensor> {
  const net = new Network(new Map());
  ARCHITECTURES.get(arch)?.architecture.define(net, '');
  return new Map(
    net.misfits().missing.map((text) => {
      const [, key, dims] = /^(\S+) \[(.*)\]$/.exec(text) ?? [];
      return [key, { dtype: 'f32', shape: dims === '' ? [] : dims.split(',').map(Number), data: NO_DATA }];
    }),
  );
}

function thrown(work: () => unknown): ModelError {
  try {
    work();
  } catch (error) {
    if (error instanceof ModelError) return error;
    throw error;
  }
  throw new Error('nothing was thrown');
}

test.each([...ARCHITECTURES.keys()])('%s is told from all others, with any number of classes', (arch) => {
  const weights = wantedBy(arch);
  expect(weights.size).toBeGreaterThan(10);
  expect(recognise(weights).architecture.name).toBe(arch);
  for (const key of [...weights.keys()].slice(-2)) {
    const { shape } = weights.get(key)!;
    weights.set(key, { dtype: 'f32', shape: [7, ...shape.slice(1)], data: NO_DATA });
  }
  expect(recognise(weights).architecture.name).toBe(arch);
});

test('missing, extra and wrong keys are listed all at once, with their shapes', () => {
  const weights = wantedBy('resnet18');
  weights.delete('layer2.0.conv1.weight');
  weights.delete('fc.bias');
  weights.set('conv1.weight', { dtype: 'f32', shape: [64, 1, 7, 7], data: NO_DATA });
  weights.set('head.weight', { dtype: 'f16', shape: [3], data: new Uint16Array(0) });
  const error = thrown(() => recognise(weights));
  expect(error.code).toBe('weights-mismatch');
  expect(error.message).toContain('nearest to resnet18');
  expect(error.details).toEqual([
    'missing: layer2.0.conv1.weight [128,64,3,3]',
    'missing: fc.bias [1000]',
    'of the wrong shape: conv1.weight is [64,1,7,7], expected [64,3,7,7]',
    'too many: head.weight f16[3]',
  ]);
});

test('--arch decides; a name that is none lists those that are', () => {
  const error = thrown(() => recognise(wantedBy('resnet18'), 'resnet34'));
  expect([error.code, error.message]).toEqual(['weights-mismatch', expect.stringContaining('do not fit resnet34')]);
  const unknown = thrown(() => recognise(wantedBy('resnet18'), 'resnet19'));
  expect([unknown.code, unknown.hint]).toEqual(['option-invalid', expect.stringContaining('resnet18, resnet34')]);
});

test('weights of something else say so', () => {
  const error = thrown(() => recognise(new Map([['encoder.weight', { dtype: 'f32', shape: [2], data: NO_DATA }]])));
  expect([error.code, error.message]).toEqual(['architecture-unknown', expect.stringContaining('encoder.weight')]);
});

test('keys of older releases are read', () => {
  const old = [...wantedBy('densenet121')].map(
    ([key, tensor]) => [key.replace(/(norm|conv)([12]\.)/, '$1.$2'), tensor] as const,
  );
  expect(recognise(new Map(old)).architecture.name).toBe('densenet121');
  const vit = [...wantedBy('vit_b_16')].map(
    ([key, tensor]) => [key.replace('.mlp.0.', '.mlp.linear_1.').replace('.mlp.3.', '.mlp.linear_2.'), tensor] as const,
  );
  expect(recognise(new Map(vit)).architecture.name).toBe('vit_b_16');
});

test('the graph has the input and output that exporters name, in the size that is asked for', () => {
  const weights = [...wantedBy('squeezenet1_1')].map(
    ([key, { shape }]) => [key, { dtype: 'f32', shape, data: new Float32Array(elements(shape)) }] as const,
  );
  const bytes = safetensorsOf(new Map<string, Tensor>(weights));
  const { graph, arch, parameters } = readTorch(bytes, { ops: OPS });
  expect([arch, parameters, graph.inputs, graph.outputs]).toEqual(['squeezenet1_1', 1235496, ['input'], ['output']]);
  expect(graph.values.get('input')).toEqual({ dtype: 'f32', shape: [1, 3, 224, 224] });
  expect(graph.values.get('output')?.shape).toEqual([1, 1000]);
  expect(graph.constants.get('features.0.weight')?.data.buffer).toBe(bytes.buffer);
  const wide = readTorch(bytes, { ops: OPS, shapes: { input: [2, 3, 224, 336] } });
  expect(wide.graph.values.get('output')?.shape).toEqual([2, 1000]);
  expect(thrown(() => readTorch(bytes, { ops: OPS, shapes: { picture: [1] } })).code).toBe('input-unknown');
  expect(thrown(() => readTorch(bytes, { ops: OPS, shapes: { input: [1, 4, 224, 224] } })).code).toBe('shape-mismatch');
});
