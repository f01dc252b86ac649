/** Every row of the instruction table against wabt: a function that uses the instruction disassembles to its name, and validates. */

import { describe, expect, test } from 'vitest';
import initWabt from 'wabt';
import { EMPTY_BLOCK, encodeInstruction, type ImmediateValue, leb, signedLeb, VALTYPE_CODES } from './encode.ts';
import { type Immediate, INSTRUCTIONS, type Instruction, type InstructionName, type ValType } from './instructions.ts';
import { ModuleBuilder } from './module.ts';

const wabt = await initWabt();
const FEATURES = { simd: true, relaxed_simd: true, threads: true, bulk_memory: true };
const names = Object.keys(INSTRUCTIONS) as InstructionName[];

const VECTOR = Array.from({ length: 16 }, (_, i) => i);
function immediateValues(kind: Immediate, { alignment }: Instruction): ImmediateValue[] {
  switch (kind) {
    case 'memarg':
      return [alignment, 8];
    case 'block':
      return [EMPTY_BLOCK];
    case 'labels':
      return [[0, 0]];
    case 'types':
      return [[VALTYPE_CODES.v128]];
    case 'lanes':
    case 'v128':
      return [VECTOR];
    case 'i64':
      return [-5n];
    case 'lane':
      return [1];
    default:
      return [0];
  }
}

/** Context-dependent rows need operands beyond those of the row, or a structure around them. */
const OPERANDS: Partial<Record<InstructionName, readonly ValType[]>> = {
  drop: ['i32'],
  select: ['f32', 'f32', 'i32'],
  select_t: ['v128', 'v128', 'i32'],
  br_table: ['i32'],
  'local.set': ['i32'],
  'local.tee': ['i32'],
  'global.set': ['i32'],
};
const RESULTS: Partial<Record<InstructionName, true>> = {
  select: true,
  select_t: true,
  'local.get': true,
  'local.tee': true,
  'global.get': true,
};

function zero(type: ValType): readonly number[] {
  return encodeInstruction(`${type}.const`, [type === 'i64' ? 0n : type === 'v128' ? VECTOR : 0]);
}

function moduleWith(name: InstructionName): Uint8Array {
  const instruction = INSTRUCTIONS[name];
  const module = new ModuleBuilder();
  module.importMemory('env', 'memory', { min: 1, max: 2, shared: instruction.extension === 'threads' });
  const f = module.declare('f', { params: ['i32'], results: [] });
  module.global(0, true);
  if (instruction.immediates.includes('data')) module.data(0, [1, 2, 3]);
  const code = encodeInstruction(
    name,
    instruction.immediates.flatMap((kind) => immediateValues(kind, instruction)),
  );
  const operands = (OPERANDS[name] ?? instruction.operands).flatMap(zero);
  const end = encodeInstruction('end');
  if (name === 'call') operands.push(...zero('i32'));
  const body = [...operands, ...code];
  if (name === 'block' || name === 'loop' || name === 'if') body.push(...end);
  if (name === 'else') {
    body.unshift(...zero('i32'), ...encodeInstruction('if', [EMPTY_BLOCK]));
    body.push(...encodeInstruction('nop'), ...end);
  }
  if (name === 'end') body.unshift(...encodeInstruction('block', [EMPTY_BLOCK]));
  if (instruction.result || RESULTS[name]) body.push(...encodeInstruction('drop'));
  module.define(f, [0, ...body, ...end]);
  return module.build();
}

describe('instructions', () => {
  /** data.drop and memory.init need the data count section, which the builder leaves out: their text is checked, not validity. */
  const unvalidated = new Set<InstructionName>(['memory.init', 'data.drop']);
  test.each(names)('%s', (name) => {
    if (unvalidated.has(name)) {
      expect(
        encodeInstruction(
          name,
          INSTRUCTIONS[name].immediates.map(() => 0),
        ),
      ).toHaveLength(name === 'data.drop' ? 3 : 4);
      return;
    }
    const module = wabt.readWasm(moduleWith(name), { ...FEATURES, readDebugNames: true });
    try {
      (module as { validate(features: object): void }).validate(FEATURES);
      const text = module.toText({ foldExprs: false, inlineExport: false });
      const spelled = name === 'select_t' ? 'select (result v128)' : name;
      const lines = text.split('\n').map((line) => line.trim().replace(/\)+$/, ''));
      const found = lines.filter((line) => line === spelled.replace(/\)$/, '') || line.startsWith(`${spelled} `));
      expect(found, text).not.toEqual([]);
    } finally {
      module.destroy();
    }
  });

  test('no two rows share an opcode', () => {
    const opcodes = names.map((name) => INSTRUCTIONS[name].opcode.join());
    expect(new Set(opcodes).size).toBe(names.length);
  });
});

test('LEB128 round trip', () => {
  const decode = (bytes: readonly number[], signed: boolean): bigint => {
    let value = 0n;
    bytes.forEach((byte, i) => {
      value |= BigInt(byte & 0x7f) << BigInt(7 * i);
    });
    const bits = 7 * bytes.length;
    return signed ? BigInt.asIntN(bits, value) : value;
  };
  for (const value of [0, 1, 63, 64, 127, 128, 8191, 8192, 2 ** 31 - 1, 2 ** 31, 2 ** 32 - 1]) {
    expect(decode(leb(value), false)).toBe(BigInt(value));
    expect(decode(signedLeb(value), true)).toBe(BigInt(value));
    expect(decode(signedLeb(-value), true)).toBe(BigInt(-value));
  }
  expect(signedLeb(-(2n ** 63n))).toHaveLength(10);
});
