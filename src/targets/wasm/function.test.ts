/** Stack code of functions: what goes through locals, what stays on the stack, what is left out. */
import { expect, test } from 'vitest';
import initWabt from 'wabt';
import { FunctionBuilder, type Local } from './function.ts';
import type { ValType } from './instructions.ts';
import { ModuleBuilder } from './module.ts';

const wabt = await initWabt();

/** The function's instructions, one a line, locals by number; and the function itself. */
function assemble(params: readonly ValType[], write: (code: FunctionBuilder) => Local) {
  const code = new FunctionBuilder(params);
  code.effect('return', [write(code)]);
  const module = new ModuleBuilder();
  module.memory({ min: 1 });
  const f = module.declare('f', { params, results: ['i32'] });
  module.define(f, code.finish());
  module.exportFunction('f', f);
  const bytes = module.build();
  const text = wabt.readWasm(bytes, { simd: true }).toText({ foldExprs: false, inlineExport: false });
  const from = text.indexOf('(func (;');
  const lines = text.slice(from, text.indexOf('(memory')).split('\n').slice(1);
  const instance = new WebAssembly.Instance(new WebAssembly.Module(bytes as Uint8Array<ArrayBuffer>));
  const body = lines.map((line) => line.trim().replace(/\)$/, '')).filter((line) => line !== '');
  return { body, call: instance.exports.f as (...args: number[]) => number };
}

test('values used once, in order, stay on the stack', () => {
  const { body, call } = assemble(['i32', 'i32'], (code) => {
    const [a, b] = code.params;
    const sum = code.emit('i32.add', [a, b]);
    const difference = code.emit('i32.sub', [a, b]);
    return code.emit('i32.mul', [sum, difference]);
  });
  expect(body).toEqual([
    'local.get 0',
    'local.get 1',
    'i32.add',
    'local.get 0',
    'local.get 1',
    'i32.sub',
    'i32.mul',
    'return',
  ]); // prettier-ignore
  expect(call(7, 3)).toBe(40);
});

test('a value used twice passes through one local, by a tee', () => {
  const { body, call } = assemble(['i32'], (code) => {
    const next = code.emit('i32.add', [code.params[0], code.constant('i32', 1)]);
    return code.emit('i32.mul', [next, next]);
  });
  expect(body).toEqual([
    '(local i32',
    'local.get 0',
    'i32.const 1',
    'i32.add',
    'local.tee 1',
    'local.get 1',
    'i32.mul',
    'return',
  ]);
  expect(call(4)).toBe(25);
});

test('order of evaluation is kept where operands were computed the other way round', () => {
  const { call } = assemble(['i32', 'i32'], (code) => {
    const [a, b] = code.params;
    const second = code.emit('i32.sub', [a, b]);
    const first = code.emit('i32.add', [a, b]);
    return code.emit('i32.div_s', [first, second]);
  });
  expect(call(9, 3)).toBe(2);
});

test('a load stays before a store that follows it', () => {
  const { call } = assemble(['i32'], (code) => {
    const [value] = code.params;
    const zero = code.constant('i32', 0);
    const before = code.emit('i32.load', [zero], [2, 16]);
    code.effect('i32.store', [zero, value], [2, 16]);
    return code.emit('i32.add', [before, code.emit('i32.load', [zero], [2, 16])]);
  });
  expect([call(5), call(6), call(7)]).toEqual([5, 11, 13]);
});

test('what nobody reads is left out, with what only it read; what may trap is kept', () => {
  const { body } = assemble(['i32'], (code) => {
    const [a] = code.params;
    const unused = code.emit('i32.add', [a, a]);
    code.emit('i32.mul', [unused, unused]);
    code.emit('i32.div_s', [a, a]);
    return a;
  });
  expect(body).toEqual(['local.get 0', 'local.get 0', 'i32.div_s', 'drop', 'local.get 0', 'return']);
});

test('registers of straight code share locals', () => {
  const { body, call } = assemble(['i32'], (code) => {
    let x = code.params[0];
    for (let i = 0; i < 100; i++) {
      const twice = code.emit('i32.add', [x, x]);
      x = code.emit('i32.xor', [twice, code.emit('i32.shr_u', [twice, code.constant('i32', 3)])]);
    }
    return x;
  });
  expect(body[0].split(' ').length - 1).toBeLessThanOrEqual(2);
  let wanted = 12345;
  for (let i = 0; i < 100; i++) wanted = (2 * wanted) ^ ((2 * wanted) >>> 3);
  expect(call(12345)).toBe(wanted | 0);
});

test('very long chains neither overflow nor go wrong', () => {
  const { call } = assemble(['i32'], (code) => {
    let x = code.params[0];
    for (let i = 0; i < 50_000; i++) x = code.emit('i32.add', [x, code.constant('i32', i)]);
    return x;
  });
  expect(call(1)).toBe(1 + (49_999 * 50_000) / 2);
});

test('a constant register cannot be written', () => {
  const code = new FunctionBuilder([]);
  const one = code.constant('i32', 1);
  code.move(one, code.constant('i32', 2));
  code.effect('return', [one]);
  expect(() => code.finish()).toThrow(/constant/);
});
