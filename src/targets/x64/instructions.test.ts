/**
 * Every row of the instruction table against binutils' disassembler: registers low and high, every form of address. Skipped where
 * objdump is absent; the golden bytes below need nothing.
 */
import { execFileSync, spawnSync } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { Encoder, imm, type Memory, mem, type Operand, r8, r32, r64, ripMem, xmm, ymm, zmm } from './encode.ts';
import {
  CONDITIONS,
  INSTRUCTIONS,
  type Instruction,
  type InstructionName,
  type OperandKind,
  type OperandRule,
} from './instructions.ts';

const hasObjdump = spawnSync('objdump', ['--version']).status === 0;
const LOW = ['ax', 'cx', 'dx', 'bx', 'sp', 'bp', 'si', 'di'];
const BYTES = ['al', 'cl', 'dl', 'bl', 'spl', 'bpl', 'sil', 'dil'];
const COMPARES: Readonly<Record<number, string>> = { 0: 'eq', 1: 'lt', 4: 'neq' };
const POINTERS: Readonly<Record<number, string>> = {
  8: 'BYTE PTR ',
  16: 'WORD PTR ',
  32: 'DWORD PTR ',
  64: 'QWORD PTR ',
  128: 'XMMWORD PTR ',
  256: 'YMMWORD PTR ',
  512: 'ZMMWORD PTR ',
  0: '',
};

const MEMORIES: readonly Memory[] = [
  mem(0),
  mem(5),
  mem(13),
  mem(4),
  mem(12, 8),
  mem(3, -128),
  mem(9, 128),
  mem(7, -129, 1, 4),
  mem(5, 0, 5, 2),
  mem(13, 64, 12, 8),
  mem(undefined, 0x1234, 15, 4),
  mem(11, 0x12345678, 8, 1),
];
/** Around the ends of 8 bits in units of 4 to 64 bytes, and between two units. */
const SCALED: readonly Memory[] = [
  ...[4, 8, 16, 32, 64].flatMap((unit) => [mem(1, 127 * unit), mem(13, -128 * unit), mem(3, 128 * unit, 10, 4)]),
  mem(2, 66),
  mem(4, -24),
];

function registerName({ kind, n }: { readonly kind: string; readonly n: number }): string {
  switch (kind) {
    case 'r8':
      return n < 8 ? BYTES[n] : `r${n}b`;
    case 'r16':
      return n < 8 ? LOW[n] : `r${n}w`;
    case 'r32':
      return n < 8 ? `e${LOW[n]}` : `r${n}d`;
    case 'r64':
      return n < 8 ? `r${LOW[n]}` : `r${n}`;
    default:
      return `${kind}${n}`;
  }
}

const hexOf = (value: number | bigint): string =>
  value < 0 ? `-0x${(-value).toString(16)}` : `0x${value.toString(16)}`;

function memoryName({ base, index, scale, disp }: Memory): string {
  const plus = disp === 0 && base !== undefined ? '' : disp < 0 ? hexOf(disp) : `+${hexOf(disp)}`;
  const parts = [base, index].map((n, i) => n !== undefined && registerName(r64(n)) + (i === 1 ? `*${scale}` : ''));
  return `[${parts.filter(Boolean).join('+')}${plus}]`;
}

/** Bits that a memory operand has. */
function memoryBits(kind: OperandKind, form: Form): number {
  const fixed = /(\d+)$/.exec(kind);
  if (fixed) return Number(fixed[1]);
  if (kind === 'm') return 0;
  return kind === 'vm' ? VECTOR_BITS[form.vector] : form.general === 'r64' ? 64 : 32;
}

const VECTOR_BITS = { xmm: 128, ymm: 256, zmm: 512 } as const;

interface Form {
  readonly general: 'r32' | 'r64';
  readonly vector: keyof typeof VECTOR_BITS;
  /** Vector registers are those of the row's encoding. */
  readonly registers: 16 | 32;
  readonly first: number;
  readonly memory: Memory | undefined;
}

const isMemoryKind = (kind: OperandKind): boolean => /m/.test(kind) && !/^i/.test(kind);
const needsMemory = ({ kind }: OperandRule): boolean => /^m/.test(kind);

function operandFor({ kind }: OperandRule, at: number, form: Form): Operand {
  const n = (form.first + 5 * at) % 16;
  const vector = (form.first + 5 * at) % form.registers;
  if (form.memory && isMemoryKind(kind)) return { ...form.memory, isWide: kind === 'rm' && form.general === 'r64' };
  switch (kind) {
    case 'i8':
      return imm(1);
    case 'i32':
      return imm(-0x1234);
    case 'i64':
      return imm(0x123456789abcdef0n);
    case 'r':
    case 'rm':
      return { kind: form.general, n };
    case 'v':
    case 'vm':
      return { kind: form.vector, n: vector };
    case 'k':
      return { kind: 'k', n: 1 + (n % 7) };
    case 'ym256':
      return ymm(vector);
    case 'r8':
    case 'rm8':
      return r8(n);
    case 'r16':
    case 'rm16':
      return { kind: 'r16', n };
    case 'r32':
    case 'rm32':
      return r32(n);
    case 'r64':
    case 'rm64':
      return r64(n);
    default:
      return xmm(vector);
  }
}

/** 32-bit negatives are printed as unsigned, 64-bit ones sign-extended. */
function immediateName(value: number | bigint, kind: OperandKind, form: Form, hasMemory: boolean): string {
  if (value >= 0) return hexOf(value);
  const bits = kind === 'i32' && form.general === 'r64' ? 64 : 32;
  return hexOf(BigInt.asUintN(hasMemory && form.general === 'r32' ? 32 : bits, BigInt(value)));
}

function printed(row: Instruction, operands: readonly Operand[], form: Form): string {
  const hasMemory = operands.some((o) => o.kind === 'mem');
  let { mnemonic } = row;
  const mask = row.encoding.endsWith('K') ? operands.at(-1) : undefined;
  const texts = operands.map((operand, i) => {
    const { kind } = row.operands[i];
    if (operand.kind === 'mem') return POINTERS[memoryBits(kind, form)] + memoryName(operand);
    if (operand.kind === 'imm') return immediateName(operand.value, kind, form, hasMemory);
    return operand.kind === 'label' ? '' : registerName(operand);
  });
  if (/^vp?cmp(ps|ss|sd|d|ud)$/.test(mnemonic)) {
    const predicate = texts.pop();
    mnemonic = mnemonic.replace('cmp', `cmp${COMPARES[Number(predicate)]}`);
  }
  // What AVX-512 has too is printed with its encoding where that is VEX.
  if (mnemonic.startsWith('vpdp') && row.vex) mnemonic = `{vex} ${mnemonic}`;
  if (mask) texts[0] += `{${texts.pop()}}${row.evex?.zeroes ? '{z}' : ''}`;
  return texts.length > 0 ? `${mnemonic} ${texts.join(',')}` : mnemonic;
}

function formsOf(name: InstructionName, row: Instruction): Form[] {
  const generals = row.operands.some(({ kind }) => kind === 'r' || kind === 'rm') ? ['r32', 'r64'] : ['r32'];
  const general = (name === 'movsxd' ? ['r64'] : generals) as Form['general'][];
  const has = row.operands.some(({ kind }) => kind === 'v' || kind === 'vm');
  const lengths: Form['vector'][] = has && row.vex?.l !== 1 ? ['xmm', 'ymm'] : ['ymm'];
  if (row.evex && has) lengths.push('zmm');
  const vectors = lengths.filter((length) => !MISSING_LENGTHS[name]?.includes(length));
  const memories = row.operands.some(({ kind }) => isMemoryKind(kind))
    ? [...MEMORIES, ...(row.evex ? SCALED : [])]
    : [];
  const firsts = row.evex ? [1, 6, 9, 12, 17, 22, 25, 28] : [1, 6, 9, 12];
  const registers = row.operands.some(needsMemory) ? [] : [undefined];
  return general.flatMap((g) =>
    vectors.flatMap((vector) =>
      firsts.flatMap((first) =>
        [...registers, ...memories].map(
          (memory): Form => ({ general: g, vector, first, memory, registers: row.evex ? 32 : 16 }),
        ),
      ),
    ),
  );
}

/** Lengths of vectors that have no form of these. */
const MISSING_LENGTHS: Partial<Record<InstructionName, readonly Form['vector'][]>> = {
  vshuff32x4: ['xmm'],
  vextractf32x4: ['xmm'],
  vextractf64x4: ['xmm', 'ymm'],
  vpmovzxbd_z: ['xmm', 'ymm'],
  vpmovsxbd_z: ['xmm', 'ymm'],
  vpmovdb: ['xmm', 'ymm'],
};

/** Assembler lines of code, without addresses and bytes; behind # the address of an operand relative to rip. */
function disassemble(code: Uint8Array): string[] {
  const folder = mkdtempSync(join(tmpdir(), 'x64-'));
  try {
    const file = join(folder, 'code.bin');
    writeFileSync(file, code);
    const args = ['-D', '-b', 'binary', '-mi386:x86-64', '-Mintel', '--no-show-raw-insn', file];
    const text = execFileSync('objdump', args, { encoding: 'utf8', maxBuffer: 2 ** 28 });
    return text
      .split('\n')
      .flatMap((line) => /^\s+[0-9a-f]+:\s+(.*)$/.exec(line)?.[1] ?? [])
      .map((line) => line.replace(/\s+/g, ' ').trim());
  } finally {
    rmSync(folder, { recursive: true });
  }
}

/** Displacements of 0 that an encoding cannot leave out are not part of an operand. */
const text = (line: string | undefined): string | undefined => line?.replace(/ #.*$/, '').replace('+0x0]', ']').trim();

const names = Object.keys(INSTRUCTIONS) as InstructionName[];
const plain = names.filter((name) => !INSTRUCTIONS[name].operands.some(({ kind }) => kind === 'l'));

describe.skipIf(!hasObjdump)('rows against objdump (skipped where binutils is absent)', () => {
  test('mnemonics and operands', () => {
    const encoder = new Encoder();
    const expected: string[] = [];
    for (const name of plain) {
      const row = INSTRUCTIONS[name];
      for (const form of formsOf(name, row)) {
        const operands = row.operands.map((rule, i) => operandFor(rule, i, form));
        // A byte that is sign-extended to 32 bits has a row of its own, chosen by the value.
        encoder.emit(name, ...operands);
        expected.push(printed(row, operands, form));
      }
    }
    const lines = disassemble(encoder.finish());
    const wrong = expected.flatMap((want, i) => (text(lines[i]) === want ? [] : [`${lines[i]} | wanted ${want}`]));
    expect(wrong.slice(0, 20)).toEqual([]);
    expect(lines.length).toBe(expected.length);
    expect(expected.length).toBeGreaterThan(20000);
  });

  test('jumps forward and back, calls, and constants by rip', () => {
    const encoder = new Encoder();
    const [back, forward] = [encoder.newLabel(), encoder.newLabel()];
    encoder.bind(back);
    const pool = encoder.constant('sevens', () => new Uint8Array(32).fill(7));
    encoder.emit('vaddps', ymm(9), ymm(2), ripMem(pool));
    encoder.emit('vblendps', ymm(9), ymm(2), ripMem(pool), imm(3));
    encoder.emit('mov_mi', ripMem(pool, 8), imm(5));
    for (const condition of CONDITIONS) encoder.emit(`j${condition}`, back);
    encoder.emit('call', forward);
    encoder.emit('jmp', back);
    encoder.bind(forward);
    encoder.emit('ret');
    const lines = disassemble(encoder.finish());
    const at = `0x${encoder.offsetOf(pool).toString(16)}`;
    expect(encoder.offsetOf(pool) % 32).toBe(0);
    const addresses = lines.slice(0, 3).map((line) => line.split('# ')[1]);
    expect(addresses).toEqual([at, at, `0x${(encoder.offsetOf(pool) + 8).toString(16)}`]);
    expect(lines.slice(3, 3 + CONDITIONS.length)).toEqual(CONDITIONS.map((c) => `j${c} 0x0`));
    expect(lines[3 + CONDITIONS.length]).toBe(`call 0x${encoder.offsetOf(forward).toString(16)}`);
    expect(lines[4 + CONDITIONS.length]).toBe('jmp 0x0');
  });
});

describe('golden bytes', () => {
  const cases: readonly (readonly [string, InstructionName, readonly Operand[]])[] = [
    ['01 d8', 'add_mr', [r32(0), r32(3)]],
    ['48 8d 44 8b 10', 'lea', [r64(0), mem(3, 16, 1, 4)]],
    ['40 88 37', 'mov_mr8', [mem(7), r8(6)]],
    ['41 57', 'push', [r64(15)]],
    ['4c 63 c0', 'movsxd', [r64(8), r32(0)]],
    ['48 83 c1 08', 'add_i', [r64(1), imm(8)]],
    ['c5 f4 58 c2', 'vaddps', [ymm(0), ymm(1), ymm(2)]],
    ['c4 c2 75 b8 c2', 'vfmadd231ps', [ymm(0), ymm(1), ymm(10)]],
    ['c4 e2 7d 18 46 04', 'vbroadcastss', [ymm(0), mem(6, 4)]],
    ['c4 e3 75 4a c2 30', 'vblendvps', [ymm(0), ymm(1), ymm(2), ymm(3)]],
    ['c5 f8 77', 'vzeroupper', []],
    ['62 f1 74 48 58 c2', 'vaddps', [zmm(0), zmm(1), zmm(2)]],
    ['62 a1 74 40 58 c2', 'vaddps', [zmm(16), zmm(17), zmm(18)]],
    ['62 f1 7c 48 10 46 01', 'vmovups', [zmm(0), mem(6, 64)]],
    ['62 f1 7c c9 10 46 01', 'vmovups_z', [zmm(0), mem(6, 64), { kind: 'k', n: 1 }]],
    ['c3', 'ret', []],
  ];
  test.each(cases)('%s', (bytes, name, operands) => {
    const encoder = new Encoder();
    encoder.emit(name, ...operands);
    expect(Array.from(encoder.finish(), (b) => b.toString(16).padStart(2, '0')).join(' ')).toBe(bytes);
  });
});
