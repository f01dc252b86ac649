/** What a stranger's engine may not do: each change makes it refused, or harmless. */
import { describe, expect, test } from 'vitest';
import { convKernel } from '../../tests/support/contract-kernels.ts';
import type { ErrorCode } from '../core/errors.ts';
import { type BufferRef, type Engine, type Packing, packedElements, type Step, type Tactic } from '../engine/engine.ts';
import * as e from '../loop/expr.ts';
import type { Kernel } from '../loop/ir.ts';
import { admitEngine } from './admit.ts';
import type { CpuTemplate } from './cpu/template.ts';
import { CPU_TEMPLATES } from './cpu/templates.ts';
import type { Template } from './target.ts';

const FEATURES = ['avx2', 'fma'];
const CONV = convKernel({ size: [8, 8], ic: 16, oc: 24, kernel: [3, 3], pad: 1, epilogue: 'bias-relu' });
const panels = CPU_TEMPLATES.find((t) => t.name === 'panels') as CpuTemplate;

/** y[i] = x[p[i]] for i < 8: nothing keeps p inside. */
const GATHER: Kernel = {
  name: 'gather',
  form: { kind: 'move' },
  buffers: [
    { name: 'x', dtype: 'f32', elements: 8, role: 'in' },
    { name: 'p', dtype: 'i32', elements: 8, role: 'in' },
    { name: 'y', dtype: 'f32', elements: 8, role: 'out' },
  ],
  axes: [{ name: 'i', extent: 8 }],
  body: [
    {
      kind: 'store',
      buffer: 'y',
      index: e.axis('i'),
      value: e.load('x', 'f32', e.load('p', 'i32', e.axis('i'))),
    },
  ],
};

const LARGE = 2 ** 20;
const inArena = (slot: number, bytes = 2 ** 16): BufferRef => ({ space: 'arena', byteOffset: slot * 2 ** 16, bytes });

function engineOf(kernel: Kernel, tactic: Tactic, buffers: readonly BufferRef[], change: Partial<Step> = {}): Engine {
  const step: Step = {
    kernel: 0,
    tactic,
    buffers,
    values: buffers.map((_, i) => `v${i}`),
    loc: ['node'],
    tiles: 1,
    maxThreads: 1,
    barrier: false,
    flops: 0,
    bytesMoved: 0,
    ...change,
  };
  return {
    name: 'strange',
    target: 'x64',
    builtBy: 'nobody',
    machine: [],
    precision: 'fp32',
    inputs: [],
    outputs: [],
    kernels: [kernel],
    steps: [step],
    weights: [],
    weightBytes: new Uint8Array(LARGE),
    arenaBytes: LARGE,
    code: [],
  };
}

const GENERATED: Tactic = { template: 'generated', params: {}, predictedNs: 0 };
const gather = (tactic = GENERATED, buffers = [inArena(0), inArena(1), inArena(2)], change?: Partial<Step>): Engine =>
  engineOf(GATHER, tactic, buffers, change);

const constant = new Set(['w']);
const [PARAMS] = panels.candidates(CONV, { constant }, FEATURES);
const PACKED_BYTES = 4 * packedElements([...(panels.packing?.(CONV, PARAMS) ?? [])][0][1]);

function conv(tactic: Partial<Tactic> = {}, weightBytes = PACKED_BYTES, space: BufferRef['space'] = 'weights'): Engine {
  const buffers = CONV.buffers.map(
    ({ name }, i): BufferRef => (name === 'w' ? { space, byteOffset: 0, bytes: weightBytes } : inArena(i + 1)),
  );
  return engineOf(CONV, { template: 'panels', params: PARAMS, predictedNs: 0, ...tactic }, buffers);
}

test('what a build leaves behind is admitted as it is', () => {
  expect(admitEngine(conv(), CPU_TEMPLATES, FEATURES).kernels).toEqual([CONV]);
  expect(admitEngine(conv(GENERATED), CPU_TEMPLATES, FEATURES).kernels[0]).toBe(CONV);
});

test('an index from memory is clamped', () => {
  const [kernel] = admitEngine(gather(), CPU_TEMPLATES, FEATURES).kernels;
  expect(kernel).not.toBe(GATHER);
  expect(JSON.stringify(kernel.body)).toMatch(/"op":"min".*"op":"max"/);
});

test('tiles are those of the code that is made, whatever the file says', () => {
  const { steps } = admitEngine(
    gather(GENERATED, undefined, { tiles: 10 ** 9, maxThreads: 64 }),
    CPU_TEMPLATES,
    FEATURES,
  );
  expect(steps[0].tiles).toBe(CPU_TEMPLATES.find((t) => t.name === 'generated')?.tiles(GATHER, {}));
  expect(steps[0].maxThreads).toBeLessThanOrEqual(steps[0].tiles);
});

describe('a tactic is judged by where the buffers lie and what the engine computes in', () => {
  const picky: Template = {
    name: 'picky',
    form: 'any',
    candidates: (_, { unaligned, tf32 }) => [{ aside: unaligned?.has('x') ? 1 : 0, tf32: tf32 ? 1 : 0 }],
    predictNs: () => 1,
    tiles: () => 1,
  };
  const aside: BufferRef = { ...inArena(0), byteOffset: 4 };
  const admit = (x: BufferRef, params: Tactic['params'], precision: Engine['precision'], warnings: string[]) =>
    admitEngine(
      { ...gather({ template: 'picky', params, predictedNs: 0 }, [x, inArena(1), inArena(2)]), precision },
      [picky],
      FEATURES,
      (message) => warnings.push(message),
    );

  test.each([
    [aside, { aside: 1, tf32: 0 }, 'fp32', true],
    [aside, { aside: 0, tf32: 0 }, 'fp32', false],
    [inArena(0), { aside: 1, tf32: 0 }, 'fp32', false],
    [inArena(0), { aside: 0, tf32: 1 }, 'tf32', true],
    [inArena(0), { aside: 0, tf32: 1 }, 'fp32', false],
  ] as const)('%j %j %s', (x, params, precision, isLegal) => {
    const warnings: string[] = [];
    const [step] = admit(x, params, precision, warnings).steps;
    // What is not legal here gave way to what is.
    const legal = { aside: x === aside ? 1 : 0, tf32: precision === 'tf32' ? 1 : 0 };
    expect(step.tactic.params).toEqual(legal);
    expect(warnings.length).toBe(isLegal ? 0 : 1);
  });
});

test('scratch is what the code needs, whatever the file says', () => {
  const winograd = CPU_TEMPLATES.find((t) => t.name === 'winograd') as CpuTemplate;
  const [params] = winograd.candidates(CONV, { constant }, FEATURES);
  const bytes = 4 * packedElements([...(winograd.packing?.(CONV, params) ?? [])][0][1]);
  const engine = conv({ template: 'winograd', params }, bytes);
  const { steps } = admitEngine(
    { ...engine, steps: [{ ...engine.steps[0], scratchBytes: 4 }] },
    CPU_TEMPLATES,
    FEATURES,
  );
  expect(steps[0].scratchBytes).toBe(winograd.scratchBytes?.(CONV, params));
  expect(steps[0].scratchBytes).toBeGreaterThan(4);
});

test('a window whose stated input is larger than its buffer is nothing for tiles that reach over the edge', () => {
  const open = convKernel({ size: [10, 10], ic: 16, oc: 24, kernel: [3, 3] });
  const { form } = open;
  if (form.kind !== 'contract') return expect.fail();
  const dims = form.a.dims.map((d) => (d.extent === 10 ? { ...d, extent: 1000 } : d));
  const lying: Kernel = { ...open, form: { ...form, a: { ...form.a, dims } } };
  const winograd = CPU_TEMPLATES.find((t) => t.name === 'winograd') as CpuTemplate;
  expect(winograd.candidates(open, { constant }, FEATURES)).not.toEqual([]);
  expect(winograd.candidates(lying, { constant }, FEATURES)).toEqual([]);
});

const [[, PACKING]] = [...(panels.packing?.(CONV, PARAMS) ?? [])];
const packedWeight = (packing: Packing): Engine['weights'][number] => ({
  name: 'w',
  dtype: 'f32',
  shape: [packedElements(packing)],
  byteOffset: 0,
  bytes: 4 * packedElements(packing),
  packing,
});

/** `{ "a=1,b": 2 }` of `{ a: 1, b: 2 }`. */
function asOneName(params: Tactic['params']): Tactic['params'] {
  const names = Object.keys(params).sort();
  const last = names.pop() as string;
  return { [[...names.map((name) => `${name}=${params[name]}`), last].join()]: params[last] };
}

describe('a tactic of another machine gives way to one that is here', () => {
  const rows: readonly (readonly [string, Engine])[] = [
    ['a tactic that nobody has', gather({ ...GENERATED, template: 'exec' })],
    ['parameters that no row has', conv({ params: { ...PARAMS, width: 1000 } })],
    ['parameters that are no numbers', conv({ params: { ...PARAMS, rows: Number.NaN } })],
    ['parameters whose names read like a row', conv({ params: asOneName(PARAMS) })],
    ['a template of another form', gather({ ...GENERATED, template: 'panels', params: PARAMS })],
    ['a packed weight that is not constant', conv({}, PACKED_BYTES, 'arena')],
  ];
  test.each(rows)('%s', (_, engine) => {
    const warnings: string[] = [];
    const { steps, kernels } = admitEngine(engine, CPU_TEMPLATES, FEATURES, (message) => warnings.push(message));
    const [{ tactic, buffers }] = steps;
    const template = CPU_TEMPLATES.find(({ name }) => name === tactic.template) as CpuTemplate;
    const constants = kernels[0].buffers.filter((__, b) => buffers[b].space === 'weights').map(({ name }) => name);
    expect(template.candidates(kernels[0], { constant: new Set(constants) }, FEATURES)).toContainEqual(tactic.params);
    // The weights are said to be row-major, and so they are read.
    expect(template.packing?.(kernels[0], tactic.params)?.size ?? 0).toBe(0);
    expect(warnings).toEqual([expect.stringContaining('1 of 1 were chosen again')]);
  });

  test('packed weights stay as they are', () => {
    const engine = { ...conv({ params: { ...PARAMS, rows: 1000 } }), weights: [packedWeight(PACKING)] };
    const [{ tactic }] = admitEngine(engine, CPU_TEMPLATES, FEATURES).steps;
    expect([...(panels.packing?.(CONV, tactic.params) ?? [])]).toEqual([['w', PACKING]]);
    expect(tactic.template).toBe('panels');
  });
});

describe('refused', () => {
  const short = (bytes: number): Kernel => ({
    ...CONV,
    buffers: CONV.buffers.map((b) => (b.name === 'w' ? { ...b, elements: bytes / 4 } : b)),
  });
  const rows: readonly (readonly [string, ErrorCode, () => Engine])[] = [
    ['a buffer outside its space', 'engine-parse', () => gather(GENERATED, [inArena(0), inArena(1), inArena(16)])],
    [
      'a buffer shorter than its kernel needs',
      'engine-parse',
      () => gather(GENERATED, [inArena(0, 28), inArena(1), inArena(2)]),
    ],
    [
      'a buffer that is not aligned',
      'engine-parse',
      () => gather(GENERATED, [{ ...inArena(0), byteOffset: 2 }, inArena(1), inArena(2)]),
    ],
    [
      'a kernel that writes to the weights',
      'engine-parse',
      () => gather(GENERATED, [inArena(0), inArena(1), { ...inArena(2), space: 'weights' }]),
    ],
    ['a kernel that is not there', 'engine-parse', () => gather(GENERATED, undefined, { kernel: 1 })],
    [
      'a weight packed as no tactic here reads it',
      'engine-machine',
      () => ({
        ...conv({ params: { ...PARAMS, width: 1000 } }),
        weights: [packedWeight({ ...PACKING, width: 1000 } as Packing)],
      }),
    ],
    ['a packed weight that is too short', 'engine-parse', () => conv({}, PACKED_BYTES - 4)],
    [
      'a contract that reads beyond its weight',
      'engine-parse',
      () => engineOf(short(64), GENERATED, conv().steps[0].buffers),
    ],
  ];
  test.each(rows)('%s', (_, code, make) => {
    expect(() => admitEngine(make(), CPU_TEMPLATES, FEATURES)).toThrow(expect.objectContaining({ code }));
  });
});
