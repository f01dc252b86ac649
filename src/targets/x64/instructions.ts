/**
 * x86-64 instructions as rows: key, opcode, operand encoding and operands, each as Intel's manual prints it.
 *
 * The opcode column is that of "Intel 64 and IA-32 Architectures Software Developer's Manual", volume 2, section 3.1.1.1, the operand
 * encoding (Op/En) that of section 3.1.1.4; VEX.L and VEX.W without a value follow the operands. A key is the mnemonic, with what tells
 * forms of one mnemonic apart behind an underscore. Rows hold what the code generator uses; tests compare each with a disassembler.
 * Instructions of AVX that AVX-512 has too, with the same opcode, have their EVEX half in a table of its own (WIDER).
 */
import { Bug } from '../../core/errors.ts';

/**
 * Where operands go: M is ModRM.rm, R ModRM.reg, V VEX.vvvv, I an immediate, O the opcode's low bits, D a displacement, S is4,
 * K the mask EVEX.aaa.
 */
export type OperandEncoding =
  | 'RM'
  | 'MR'
  | 'RMI'
  | 'MRI'
  | 'RMV'
  | 'RVM'
  | 'RVMI'
  | 'RVMS'
  | 'RVMK'
  | 'RMK'
  | 'MRK'
  | 'VMI'
  | 'MI'
  | 'M'
  | 'O'
  | 'OI'
  | 'D'
  | 'ZO';

/**
 * r: a general register of 32 or 64 bits; v: a vector register of any length; x: xmm; k: a mask; m: an address; i: immediate; l: label.
 * A number is the operand's width in bits where it is fixed; `rm`, `vm`, `xm32` … may be memory.
 */
export type OperandKind =
  | 'r'
  | 'r8'
  | 'r16'
  | 'r32'
  | 'r64'
  | 'rm'
  | 'rm8'
  | 'rm16'
  | 'rm32'
  | 'rm64'
  | 'm'
  | 'm8'
  | 'm32'
  | 'm64'
  | 'v'
  | 'vm'
  | 'x'
  | 'xm32'
  | 'xm64'
  | 'xm128'
  | 'ym256'
  | 'k'
  | 'i8'
  | 'i32'
  | 'i64'
  | 'l';

export interface OperandRule {
  readonly kind: OperandKind;
  readonly reads: boolean;
  readonly writes: boolean;
}

/** 8-bit displacements count in the bytes of the memory operand: a whole vector's, or so many (volume 2, 2.7.5). */
export type DisplacementUnit = 'vector' | 4 | 8 | 16 | 32;

export interface EvexForm {
  readonly w: 0 | 1;
  readonly unit: DisplacementUnit;
  /** What the mask leaves out becomes 0; else it keeps what it was. */
  readonly zeroes: boolean;
}

export interface Instruction {
  readonly mnemonic: string;
  readonly encoding: OperandEncoding;
  readonly operands: readonly OperandRule[];
  /** Undefined: legacy encoding, or EVEX only. l and w are undefined where operands decide. */
  readonly vex: { readonly l: 0 | 1 | undefined; readonly w: 0 | 1 | undefined } | undefined;
  /** For 512 bits, registers from 16 and masks; its length follows the operands. */
  readonly evex: EvexForm | undefined;
  /** F0, F2, F3, 66: before REX; for VEX the one that pp stands for. */
  readonly prefixes: readonly number[];
  /** Opcode map: 0 is one-byte, 1 is 0F, 2 is 0F 38, 3 is 0F 3A. */
  readonly map: 0 | 1 | 2 | 3;
  readonly opcode: readonly number[];
  /** /0 … /7: ModRM.reg. */
  readonly digit: number | undefined;
  /** REX.W is set, whatever the operands. */
  readonly rexW: boolean;
  /** 64-bit operands without REX.W (push, pop, near branches). */
  readonly isDefault64: boolean;
  /** Sources 1 and 2 may change places. */
  readonly commutes: boolean;
  /** Does more than write its operands, or changes registers that it does not name. */
  readonly hasEffects: boolean;
  /** Where the operand is an immediate: its bytes, with is4's. */
  readonly immediateBytes: number;
}

const MAPS: Readonly<Record<string, 1 | 2 | 3>> = { '0F': 1, '0F38': 2, '0F3A': 3 };
const PREFIX_BYTES: Readonly<Record<string, number>> = { F0: 0xf0, '66': 0x66, F2: 0xf2, F3: 0xf3 };
const HEX_BYTE = /^([0-9A-F]{2})(\+r)?$/;

function parseOperand(text: string): OperandRule {
  const mark = text[0] === '=' || text[0] === '+' ? text[0] : '';
  return { kind: text.slice(mark.length) as OperandKind, reads: mark !== '=', writes: mark !== '' };
}

/** {VEX|EVEX}.{length}[.prefix].map.{W0|W1|WIG|W}; behind EVEX's a colon and the unit of displacements, and z where it zeroes. */
function parseVex(text: string) {
  const [form, unit, zeroes] = text.split(':');
  const [kind, length, ...rest] = form.split('.');
  const prefixes = rest.filter((part) => part in PREFIX_BYTES).map((part) => PREFIX_BYTES[part]);
  const map = rest.map((part) => MAPS[part]).find((m) => m !== undefined);
  const w = rest.includes('W') ? undefined : rest.includes('W1') ? 1 : 0;
  if (map === undefined) throw new Bug('x64-row', `${text} has no opcode map`);
  if (kind === 'EVEX') return { evex: evexForm(w ?? 0, unit, zeroes), prefixes, map } as const;
  return { vex: { l: length === 'L' ? undefined : length === '256' ? 1 : 0, w }, prefixes, map } as const;
}

const evexForm = (w: 0 | 1, unit: string, zeroes?: string): EvexForm => ({
  w,
  unit: unit === 'vector' ? unit : (Number(unit) as DisplacementUnit),
  zeroes: zeroes !== undefined,
});

interface Opcode {
  vex: Instruction['vex'];
  evex: Instruction['evex'];
  prefixes: number[];
  map: Instruction['map'];
  opcode: number[];
  digit: number | undefined;
  rexW: boolean;
  isDefault64: boolean;
}

function parseOpcode(text: string): Opcode {
  const out: Opcode = {
    vex: undefined,
    evex: undefined,
    prefixes: [],
    map: 0,
    opcode: [],
    digit: undefined,
    rexW: false,
    isDefault64: false,
  };
  for (const token of text.split(' ')) {
    const byte = HEX_BYTE.exec(token);
    if (token.includes('VEX')) Object.assign(out, parseVex(token));
    else if (token === 'REX.W') out.rexW = true;
    else if (token === 'd64') out.isDefault64 = true;
    else if (/^\/[0-7]$/.test(token)) out.digit = Number(token[1]);
    else if (byte && out.map === 0 && out.opcode.length === 0 && token in PREFIX_BYTES)
      out.prefixes.push(PREFIX_BYTES[token]);
    else if (byte && out.opcode.length === 0 && out.map === 0 && token === '0F') out.map = 1;
    else if (byte) out.opcode.push(Number.parseInt(byte[1], 16));
  }
  return out;
}

function row(
  mnemonic: string,
  opcode: string,
  encoding: OperandEncoding,
  operands = '',
  flags: { readonly commutes?: boolean; readonly hasEffects?: boolean; readonly wider?: string | undefined } = {},
): Instruction {
  const rules = operands === '' ? [] : operands.split(' ').map(parseOperand);
  const parsed = parseOpcode(opcode);
  const [w, unit] = flags.wider?.split(' ') ?? [];
  return {
    mnemonic,
    encoding,
    operands: rules,
    ...parsed,
    evex: flags.wider === undefined ? parsed.evex : evexForm(w === 'W1' ? 1 : 0, unit),
    commutes: flags.commutes ?? false,
    hasEffects: flags.hasEffects ?? false,
    immediateBytes: IMMEDIATE_BYTES[rules.at(-1)?.kind ?? 'l'] ?? (encoding === 'RVMS' ? 1 : 0),
  };
}

const IMMEDIATE_BYTES: Partial<Record<OperandKind, number>> = { i8: 1, i32: 4, i64: 8 };

type Columns = readonly [opcode: string, encoding: OperandEncoding, operands?: string, flag?: 'commutes'];

const GENERAL = {
  mov: ['8B /r', 'RM', '=r rm'],
  mov_mr: ['89 /r', 'MR', '=rm r'],
  mov_mi: ['C7 /0 id', 'MI', '=rm i32'],
  mov_oi: ['B8+r id', 'OI', '=r32 i32'],
  movabs: ['REX.W B8+r io', 'OI', '=r64 i64'],
  mov_mr8: ['88 /r', 'MR', '=rm8 r8'],
  mov_mr16: ['66 89 /r', 'MR', '=rm16 r16'],
  movsx_8: ['0F BE /r', 'RM', '=r rm8'],
  movsx_16: ['0F BF /r', 'RM', '=r rm16'],
  movsxd: ['63 /r', 'RM', '=r rm32'],
  movzx_8: ['0F B6 /r', 'RM', '=r rm8'],
  movzx_16: ['0F B7 /r', 'RM', '=r rm16'],
  lea: ['8D /r', 'RM', '=r m'],
  test: ['85 /r', 'MR', 'rm r'],
  imul: ['0F AF /r', 'RM', '+r rm'],
  imul_i: ['69 /r id', 'RMI', '=r rm i32'],
  neg: ['F7 /3', 'M', '+rm'],
  not: ['F7 /2', 'M', '+rm'],
  mul: ['F7 /4', 'M', 'rm'],
  div: ['F7 /6', 'M', 'rm'],
  idiv: ['F7 /7', 'M', 'rm'],
  cdq: ['99', 'ZO'],
  cqo: ['REX.W 99', 'ZO'],
  shl_i: ['C1 /4 ib', 'MI', '+rm i8'],
  shr_i: ['C1 /5 ib', 'MI', '+rm i8'],
  sar_i: ['C1 /7 ib', 'MI', '+rm i8'],
  shlx: ['VEX.128.66.0F38.W F7 /r', 'RMV', '=r rm r'],
  sarx: ['VEX.128.F3.0F38.W F7 /r', 'RMV', '=r rm r'],
  shrx: ['VEX.128.F2.0F38.W F7 /r', 'RMV', '=r rm r'],
  jmp: ['E9 cd', 'D', 'l'],
  jmp_m: ['d64 FF /4', 'M', 'rm64'],
  call: ['E8 cd', 'D', 'l'],
  call_m: ['d64 FF /2', 'M', 'rm64'],
  ret: ['C3', 'ZO'],
  push: ['d64 50+r', 'O', 'r64'],
  pop: ['d64 58+r', 'O', '=r64'],
  xchg: ['87 /r', 'MR', '+rm +r'],
  lock_xadd: ['F0 0F C1 /r', 'MR', '+rm +r'],
  lock_cmpxchg: ['F0 0F B1 /r', 'MR', '+rm r'],
  mfence: ['0F AE F0', 'ZO'],
  pause: ['F3 90', 'ZO'],
  syscall: ['0F 05', 'ZO'],
  cpuid: ['0F A2', 'ZO'],
  xgetbv: ['0F 01 D0', 'ZO'],
  prefetcht1: ['0F 18 /2', 'M', 'm8'],
} as const satisfies Record<string, Columns>;

/** Immediate forms with a sign-extended byte, by the form with 32 bits. */
const SHORT = {
  add_i8: ['83 /0 ib', 'MI', '+rm i8'],
  or_i8: ['83 /1 ib', 'MI', '+rm i8'],
  and_i8: ['83 /4 ib', 'MI', '+rm i8'],
  sub_i8: ['83 /5 ib', 'MI', '+rm i8'],
  xor_i8: ['83 /6 ib', 'MI', '+rm i8'],
  cmp_i8: ['83 /7 ib', 'MI', 'rm i8'],
  imul_i8: ['6B /r ib', 'RMI', '=r rm i8'],
} as const satisfies Record<string, Columns>;

const ALU = {
  add: ['03 /r', 'RM', '+r rm'],
  add_mr: ['01 /r', 'MR', '+rm r'],
  add_i: ['81 /0 id', 'MI', '+rm i32'],
  or: ['0B /r', 'RM', '+r rm'],
  or_i: ['81 /1 id', 'MI', '+rm i32'],
  and: ['23 /r', 'RM', '+r rm'],
  and_i: ['81 /4 id', 'MI', '+rm i32'],
  sub: ['2B /r', 'RM', '+r rm'],
  sub_i: ['81 /5 id', 'MI', '+rm i32'],
  xor: ['33 /r', 'RM', '+r rm'],
  xor_i: ['81 /6 id', 'MI', '+rm i32'],
  cmp: ['3B /r', 'RM', 'r rm'],
  cmp_mr: ['39 /r', 'MR', 'rm r'],
  cmp_i: ['81 /7 id', 'MI', 'rm i32'],
} as const satisfies Record<string, Columns>;

const MOVES = {
  vmovups: ['VEX.L.0F.WIG 10 /r', 'RM', '=v vm'],
  vmovups_mr: ['VEX.L.0F.WIG 11 /r', 'MR', '=vm v'],
  vmovaps: ['VEX.L.0F.WIG 28 /r', 'RM', '=v vm'],
  vmovss: ['VEX.128.F3.0F.WIG 10 /r', 'RM', '=x m32'],
  vmovss_mr: ['VEX.128.F3.0F.WIG 11 /r', 'MR', '=m32 x'],
  vmovsd: ['VEX.128.F2.0F.WIG 10 /r', 'RM', '=x m64'],
  vmovsd_mr: ['VEX.128.F2.0F.WIG 11 /r', 'MR', '=m64 x'],
  vmovd: ['VEX.128.66.0F.W0 6E /r', 'RM', '=x rm32'],
  vmovd_mr: ['VEX.128.66.0F.W0 7E /r', 'MR', '=rm32 x'],
  vmovq: ['VEX.128.66.0F.W1 6E /r', 'RM', '=x rm64'],
  vmovq_mr: ['VEX.128.66.0F.W1 7E /r', 'MR', '=rm64 x'],
  vbroadcastss: ['VEX.L.66.0F38.W0 18 /r', 'RM', '=v xm32'],
  vpbroadcastd: ['VEX.L.66.0F38.W0 58 /r', 'RM', '=v xm32'],
  vextractf128: ['VEX.256.66.0F3A.W0 19 /r ib', 'MRI', '=xm128 v i8'],
  vinsertf128: ['VEX.256.66.0F3A.W0 18 /r ib', 'RVMI', '=v v xm128 i8'],
  vpmovzxbd: ['VEX.256.66.0F38.WIG 31 /r', 'RM', '=v xm64'],
  vpmovsxbd: ['VEX.256.66.0F38.WIG 21 /r', 'RM', '=v xm64'],
  vpmovzxbw: ['VEX.256.66.0F38.WIG 30 /r', 'RM', '=v xm128'],
  vpmovsxbw: ['VEX.256.66.0F38.WIG 20 /r', 'RM', '=v xm128'],
  vpbroadcastq: ['VEX.L.66.0F38.W0 59 /r', 'RM', '=v xm64'],
  vpshufb: ['VEX.L.66.0F38.WIG 00 /r', 'RVM', '=v v vm'],
  vpermilps: ['VEX.L.66.0F3A.W0 04 /r ib', 'RMI', '=v vm i8'],
  vshufps: ['VEX.L.0F.WIG C6 /r ib', 'RVMI', '=v v vm i8'],
  vperm2f128: ['VEX.256.66.0F3A.W0 06 /r ib', 'RVMI', '=v v vm i8'],
  vunpcklps: ['VEX.L.0F.WIG 14 /r', 'RVM', '=v v vm'],
  vunpckhps: ['VEX.L.0F.WIG 15 /r', 'RVM', '=v v vm'],
  vpinsrd: ['VEX.128.66.0F3A.W0 22 /r ib', 'RVMI', '=x x rm32 i8'],
  vpextrd: ['VEX.128.66.0F3A.W0 16 /r ib', 'MRI', '=rm32 x i8'],
  vmovmskps: ['VEX.L.0F.WIG 50 /r', 'RM', '=r32 v'],
  vblendps: ['VEX.L.66.0F3A.WIG 0C /r ib', 'RVMI', '=v v vm i8'],
  vblendvps: ['VEX.L.66.0F3A.W0 4A /r /is4', 'RVMS', '=v v vm v'],
  vzeroupper: ['VEX.128.0F.WIG 77', 'ZO'],
} as const satisfies Record<string, Columns>;

const FLOATS = {
  vsqrtps: ['VEX.L.0F.WIG 51 /r', 'RM', '=v vm'],
  vsqrtss: ['VEX.128.F3.0F.WIG 51 /r', 'RVM', '=x x xm32'],
  vsqrtsd: ['VEX.128.F2.0F.WIG 51 /r', 'RVM', '=x x xm64'],
  vandps: ['VEX.L.0F.WIG 54 /r', 'RVM', '=v v vm', 'commutes'],
  vandnps: ['VEX.L.0F.WIG 55 /r', 'RVM', '=v v vm'],
  vorps: ['VEX.L.0F.WIG 56 /r', 'RVM', '=v v vm', 'commutes'],
  vxorps: ['VEX.L.0F.WIG 57 /r', 'RVM', '=v v vm', 'commutes'],
  vroundps: ['VEX.L.66.0F3A.WIG 08 /r ib', 'RMI', '=v vm i8'],
  vroundss: ['VEX.128.66.0F3A.WIG 0A /r ib', 'RVMI', '=x x xm32 i8'],
  vroundsd: ['VEX.128.66.0F3A.WIG 0B /r ib', 'RVMI', '=x x xm64 i8'],
  vcmpps: ['VEX.L.0F.WIG C2 /r ib', 'RVMI', '=v v vm i8'],
  vucomiss: ['VEX.128.0F.WIG 2E /r', 'RM', 'x xm32'],
  vucomisd: ['VEX.128.66.0F.WIG 2E /r', 'RM', 'x xm64'],
  vcmpss: ['VEX.128.F3.0F.WIG C2 /r ib', 'RVMI', '=x x xm32 i8'],
  vcmpsd: ['VEX.128.F2.0F.WIG C2 /r ib', 'RVMI', '=x x xm64 i8'],
  vfmadd231ps: ['VEX.L.66.0F38.W0 B8 /r', 'RVM', '+v v vm', 'commutes'],
  vfmadd213ps: ['VEX.L.66.0F38.W0 A8 /r', 'RVM', '+v v vm'],
  vfmadd231pd: ['VEX.L.66.0F38.W1 B8 /r', 'RVM', '+v v vm', 'commutes'],
  vfmadd231ss: ['VEX.128.66.0F38.W0 B9 /r', 'RVM', '+x x xm32', 'commutes'],
  vfmadd231sd: ['VEX.128.66.0F38.W1 B9 /r', 'RVM', '+x x xm64', 'commutes'],
  vfnmadd231ps: ['VEX.L.66.0F38.W0 BC /r', 'RVM', '+v v vm', 'commutes'],
  vfnmadd231ss: ['VEX.128.66.0F38.W0 BD /r', 'RVM', '+x x xm32', 'commutes'],
} as const satisfies Record<string, Columns>;

const CONVERSIONS = {
  vcvtdq2ps: ['VEX.L.0F.WIG 5B /r', 'RM', '=v vm'],
  vcvtps2dq: ['VEX.L.66.0F.WIG 5B /r', 'RM', '=v vm'],
  vcvttps2dq: ['VEX.L.F3.0F.WIG 5B /r', 'RM', '=v vm'],
  vcvtsi2ss: ['VEX.128.F3.0F.W 2A /r', 'RVM', '=x x rm'],
  vcvtsi2sd: ['VEX.128.F2.0F.W 2A /r', 'RVM', '=x x rm'],
  vcvttss2si: ['VEX.128.F3.0F.W 2C /r', 'RM', '=r xm32'],
  vcvttsd2si: ['VEX.128.F2.0F.W 2C /r', 'RM', '=r xm64'],
  vcvtss2sd: ['VEX.128.F3.0F.WIG 5A /r', 'RVM', '=x x xm32'],
  vcvtsd2ss: ['VEX.128.F2.0F.WIG 5A /r', 'RVM', '=x x xm64'],
  vcvtph2ps: ['VEX.256.66.0F38.W0 13 /r', 'RM', '=v xm128'],
  vcvtps2ph: ['VEX.256.66.0F3A.W0 1D /r ib', 'MRI', '=xm128 v i8'],
} as const satisfies Record<string, Columns>;

const INTEGERS = {
  vpaddd: ['VEX.L.66.0F.WIG FE /r', 'RVM', '=v v vm', 'commutes'],
  vpsubd: ['VEX.L.66.0F.WIG FA /r', 'RVM', '=v v vm'],
  vpmulld: ['VEX.L.66.0F38.WIG 40 /r', 'RVM', '=v v vm', 'commutes'],
  vpand: ['VEX.L.66.0F.WIG DB /r', 'RVM', '=v v vm', 'commutes'],
  vpor: ['VEX.L.66.0F.WIG EB /r', 'RVM', '=v v vm', 'commutes'],
  vpxor: ['VEX.L.66.0F.WIG EF /r', 'RVM', '=v v vm', 'commutes'],
  vpslld_i: ['VEX.L.66.0F.WIG 72 /6 ib', 'VMI', '=v v i8'],
  vpsrad_i: ['VEX.L.66.0F.WIG 72 /4 ib', 'VMI', '=v v i8'],
  vpsrld_i: ['VEX.L.66.0F.WIG 72 /2 ib', 'VMI', '=v v i8'],
  vpslld: ['VEX.L.66.0F.WIG F2 /r', 'RVM', '=v v xm128'],
  vpsrad: ['VEX.L.66.0F.WIG E2 /r', 'RVM', '=v v xm128'],
  vpsrld: ['VEX.L.66.0F.WIG D2 /r', 'RVM', '=v v xm128'],
  vpsllvd: ['VEX.L.66.0F38.W0 47 /r', 'RVM', '=v v vm'],
  vpsravd: ['VEX.L.66.0F38.W0 46 /r', 'RVM', '=v v vm'],
  vpsrlvd: ['VEX.L.66.0F38.W0 45 /r', 'RVM', '=v v vm'],
  vpcmpeqd: ['VEX.L.66.0F.WIG 76 /r', 'RVM', '=v v vm', 'commutes'],
  vpcmpgtd: ['VEX.L.66.0F.WIG 66 /r', 'RVM', '=v v vm'],
  vpminsd: ['VEX.L.66.0F38.WIG 39 /r', 'RVM', '=v v vm', 'commutes'],
  vpmaxsd: ['VEX.L.66.0F38.WIG 3D /r', 'RVM', '=v v vm', 'commutes'],
  vpabsd: ['VEX.L.66.0F38.WIG 1E /r', 'RM', '=v vm'],
  vpmaddubsw: ['VEX.L.66.0F38.WIG 04 /r', 'RVM', '=v v vm'],
  vpmaddwd: ['VEX.L.66.0F.WIG F5 /r', 'RVM', '=v v vm', 'commutes'],
  vpdpbusd_vex: ['VEX.L.66.0F38.W0 50 /r', 'RVM', '+v v vm'],
  vpdpwssd_vex: ['VEX.L.66.0F38.W0 52 /r', 'RVM', '+v v vm', 'commutes'],
} as const satisfies Record<string, Columns>;

/** What only AVX-512 (F, BW, DQ, VL) has: masks, and operations that give or take them. */
const MASKED = {
  kmovw: ['VEX.128.0F.W0 92 /r', 'RM', '=k r32'],
  vpmovm2d: ['EVEX.L.F3.0F38.W0:vector 38 /r', 'RM', '=v k'],
  vpmovd2m: ['EVEX.L.F3.0F38.W0:vector 39 /r', 'RM', '=k v'],
  vcmpps_k: ['EVEX.L.0F.W0:vector C2 /r ib', 'RVMI', '=k v vm i8'],
  vpcmpd: ['EVEX.L.66.0F3A.W0:vector 1F /r ib', 'RVMI', '=k v vm i8'],
  vpcmpud: ['EVEX.L.66.0F3A.W0:vector 1E /r ib', 'RVMI', '=k v vm i8'],
  vblendmps: ['EVEX.L.66.0F38.W0:vector 65 /r', 'RVMK', '=v v vm k'],
  vmovups_z: ['EVEX.L.0F.W0:vector:z 10 /r', 'RMK', '=v vm k'],
  vmovups_mrk: ['EVEX.L.0F.W0:vector 11 /r', 'MRK', '+vm v k'],
  vrndscaleps: ['EVEX.L.66.0F3A.W0:vector 08 /r ib', 'RMI', '=v vm i8'],
  vshuff32x4: ['EVEX.L.66.0F3A.W0:vector 23 /r ib', 'RVMI', '=v v vm i8'],
  vextractf32x4: ['EVEX.L.66.0F3A.W0:16 19 /r ib', 'MRI', '=xm128 v i8'],
  vextractf64x4: ['EVEX.L.66.0F3A.W1:32 1B /r ib', 'MRI', '=ym256 v i8'],
  vpandd: ['EVEX.L.66.0F.W0:vector DB /r', 'RVM', '=v v vm', 'commutes'],
  vpord: ['EVEX.L.66.0F.W0:vector EB /r', 'RVM', '=v v vm', 'commutes'],
  vpxord: ['EVEX.L.66.0F.W0:vector EF /r', 'RVM', '=v v vm', 'commutes'],
  vpdpbusd: ['EVEX.L.66.0F38.W0:vector 50 /r', 'RVM', '+v v vm'],
  vpdpwssd: ['EVEX.L.66.0F38.W0:vector 52 /r', 'RVM', '+v v vm', 'commutes'],
  vpmovzxbd_z: ['EVEX.L.66.0F38.W0:16 31 /r', 'RM', '=v xm128'],
  vpmovsxbd_z: ['EVEX.L.66.0F38.W0:16 21 /r', 'RM', '=v xm128'],
  vpmovdb: ['EVEX.L.F3.0F38.W0:16 31 /r', 'MR', '=xm128 v'],
} as const satisfies Record<string, Columns>;

/** EVEX halves of rows above: W, and the unit of displacements. */
const WIDER: Readonly<Record<string, string>> = {
  ...rowsOf('W0 vector', 'vmovups vmovups_mr vmovaps vpermilps vshufps vunpcklps vunpckhps'),
  ...rowsOf(
    'W0 vector',
    'vsqrtps vandps vandnps vorps vxorps vfmadd231ps vfmadd213ps vfnmadd231ps vcvtdq2ps vcvtps2dq vcvttps2dq',
  ),
  ...rowsOf('W0 vector', 'vaddps vmulps vsubps vminps vdivps vmaxps'),
  ...rowsOf('W0 vector', 'vpaddd vpsubd vpmulld vpslld_i vpsrad_i vpsrld_i vpsllvd vpsravd vpsrlvd'),
  ...rowsOf('W0 vector', 'vpminsd vpmaxsd vpabsd vpmaddubsw vpmaddwd'),
  ...rowsOf('W0 16', 'vpslld vpsrad vpsrld'),
  ...rowsOf('W0 4', 'vmovss vmovss_mr vmovd vmovd_mr vbroadcastss vpbroadcastd'),
  ...rowsOf('W0 4', 'vsqrtss vfmadd231ss vfnmadd231ss vaddss vmulss vsubss vminss vdivss vmaxss vcvtss2sd'),
  ...rowsOf('W1 8', 'vmovsd vmovsd_mr vmovq vmovq_mr'),
  ...rowsOf('W1 8', 'vsqrtsd vfmadd231sd vaddsd vmulsd vsubsd vminsd vdivsd vmaxsd vcvtsd2ss'),
};

function rowsOf(form: string, names: string): Record<string, string> {
  return Object.fromEntries(names.split(' ').map((name) => [name, form]));
}

const EFFECTS: ReadonlySet<string> = new Set<InstructionName>([
  ...(['ret', 'call', 'call_m', 'jmp', 'jmp_m', 'push', 'pop', 'xchg', 'lock_xadd', 'lock_cmpxchg'] as const),
  ...(['div', 'idiv', 'mul', 'cdq', 'cqo', 'syscall', 'cpuid', 'xgetbv'] as const),
  ...(['mfence', 'pause', 'vzeroupper', 'prefetcht1'] as const),
]);

/** Condition codes by their number, volume 2 appendix B.1.4.7. */
export const CONDITIONS = [
  'o',
  'no',
  'b',
  'ae',
  'e',
  'ne',
  'be',
  'a',
  's',
  'ns',
  'p',
  'np',
  'l',
  'ge',
  'le',
  'g',
] as const;
export type Condition = (typeof CONDITIONS)[number];
export const inverse = (condition: Condition): Condition => CONDITIONS[CONDITIONS.indexOf(condition) ^ 1];

const ARITHMETIC = { vadd: 0x58, vmul: 0x59, vsub: 0x5c, vmin: 0x5d, vdiv: 0x5e, vmax: 0x5f } as const;
const PRECISIONS = {
  ps: ['VEX.L.0F.WIG', '=v v vm'],
  pd: ['VEX.L.66.0F.WIG', '=v v vm'],
  ss: ['VEX.128.F3.0F.WIG', '=x x xm32'],
  sd: ['VEX.128.F2.0F.WIG', '=x x xm64'],
} as const;

export type InstructionName =
  | keyof typeof GENERAL
  | keyof typeof SHORT
  | keyof typeof ALU
  | keyof typeof MOVES
  | keyof typeof FLOATS
  | keyof typeof CONVERSIONS
  | keyof typeof INTEGERS
  | keyof typeof MASKED
  | `${'set' | 'cmov' | 'j'}${Condition}`
  | `${keyof typeof ARITHMETIC}${keyof typeof PRECISIONS}`;

const hex = (byte: number): string => byte.toString(16).toUpperCase().padStart(2, '0');

function buildTable(): Record<InstructionName, Instruction> {
  const table: Record<string, Instruction> = {};
  const listed = { ...GENERAL, ...SHORT, ...ALU, ...MOVES, ...FLOATS, ...CONVERSIONS, ...INTEGERS, ...MASKED };
  for (const [name, columns] of Object.entries(listed) as [string, Columns][]) {
    const [opcode, encoding, operands, flag] = columns;
    const mnemonic = name.startsWith('lock_') ? name.replace('_', ' ') : name.split('_')[0];
    const flags = { commutes: flag === 'commutes', hasEffects: EFFECTS.has(name), wider: WIDER[name] };
    table[name] = row(mnemonic, opcode, encoding, operands, flags);
  }
  CONDITIONS.forEach((condition, code) => {
    table[`set${condition}`] = row(`set${condition}`, `0F ${hex(0x90 + code)} /0`, 'M', '=rm8');
    table[`cmov${condition}`] = row(`cmov${condition}`, `0F ${hex(0x40 + code)} /r`, 'RM', '+r rm');
    table[`j${condition}`] = row(`j${condition}`, `0F ${hex(0x80 + code)} cd`, 'D', 'l');
  });
  for (const [stem, opcode] of Object.entries(ARITHMETIC)) {
    for (const [suffix, [prefix, operands]] of Object.entries(PRECISIONS)) {
      const name = `${stem}${suffix}`;
      table[name] = row(name, `${prefix} ${hex(opcode)} /r`, 'RVM', operands, {
        // minps and maxps give their second source where one is NaN or both are zeros.
        commutes: stem === 'vadd' || stem === 'vmul',
        wider: WIDER[name],
      });
    }
  }
  return table as Record<InstructionName, Instruction>;
}

export const INSTRUCTIONS: Readonly<Record<InstructionName, Instruction>> = buildTable();
