/** The module builder's parts, instantiated: imports, own memory, data, globals, names; and what it refuses. */
import { expect, test } from 'vitest';
import { FunctionBuilder } from './function.ts';
import { ModuleBuilder } from './module.ts';

const instantiate = (builder: ModuleBuilder, imports: WebAssembly.Imports = {}): WebAssembly.Exports =>
  new WebAssembly.Instance(new WebAssembly.Module(builder.build() as Uint8Array<ArrayBuffer>), imports).exports;

test('imported functions, memory, data and globals', () => {
  const module = new ModuleBuilder();
  const double = module.importFunction('env', 'double', { params: ['i32'], results: ['i32'] });
  module.memory({ min: 1, max: 2 });
  const counter = module.global(40, true);
  module.data(16, [1, 2, 250, 4]);
  const code = new FunctionBuilder([]);
  const sum = code.emit('i32.add', [
    code.emit('global.get', [], [counter], code.local('i32')),
    code.emit('i32.load8_u', [code.constant('i32', 18)], [0, 0]),
  ]);
  code.effect('global.set', [sum], [counter]);
  code.effect('return', [code.emit('call', [sum], [double], code.local('i32'))]);
  const f = module.declare('next', { params: [], results: ['i32'] });
  module.define(f, code.finish());
  module.exportFunction('next', f);
  module.exportMemory('memory');
  const { next, memory } = instantiate(module, { env: { double: (x: number) => 2 * x } });
  expect([(next as () => number)(), (next as () => number)()]).toEqual([580, 1080]);
  expect([...new Uint8Array((memory as WebAssembly.Memory).buffer, 16, 4)]).toEqual([1, 2, 250, 4]);
});

test('equal function types are one type', () => {
  const module = new ModuleBuilder();
  expect(module.type({ params: ['i32'], results: [] })).toBe(module.type({ params: ['i32'], results: [] }));
  expect(module.type({ params: ['i32'], results: ['i32'] })).toBe(1);
});

test('a trap shows the function by its name', () => {
  const module = new ModuleBuilder();
  const code = new FunctionBuilder([]);
  code.effect('unreachable');
  const f = module.declare('contract_f32_3x12', { params: [], results: [] });
  module.define(f, code.finish());
  module.exportFunction('run', f);
  const { run } = instantiate(module);
  let stack = '';
  try {
    (run as () => void)();
  } catch (error) {
    stack = (error as Error).stack ?? '';
  }
  expect(stack).toContain('contract_f32_3x12');
});

test('an empty module is valid', () => {
  expect(WebAssembly.validate(new ModuleBuilder().build() as Uint8Array<ArrayBuffer>)).toBe(true);
});

test('mistakes of the compiler are Bugs', () => {
  const module = new ModuleBuilder();
  module.declare('f', { params: [], results: [] });
  expect(() => module.build()).toThrow(/never defined/);
  expect(() => module.importFunction('env', 'g', { params: [], results: [] })).toThrow(/before/);
  expect(() => module.memory({ min: 1, shared: true })).toThrow(/maximum/);
  expect(() => module.memory({ min: 65537 })).toThrow(/65536/);
});
