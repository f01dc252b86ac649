/**
 * The PTX instructions that Hotrod writes: one row an instruction, with the types of its results and operands and the least chip.
 *
 * A row is `name  results = operands`, with a list in braces making a row for each of its words and `T` standing for the word.
 * Operand types are PTX's (f32, s32, pred, f16x2 …); `4*f32` is a brace-enclosed vector, `mem` an address in brackets, `imm` an
 * integer that must be known; what follows a `#` tells forms of one instruction apart and is not written. The third column is the
 * least compute capability; PTX versions follow from it and from VERSIONS.
 * Spelling and operand order are those of NVIDIA's "PTX ISA", chapter "Instruction Set".
 */
import { Bug } from '../../core/errors.ts';

/** What a register is declared as. */
export type RegType = 'pred' | 'b16' | 'b32' | 'b64' | 'f32' | 'f64';

export interface OperandType {
  readonly type: string;
  /** Registers in a vector, written in braces; 0 for a plain operand. */
  readonly count: number;
}

export interface Instruction {
  readonly mnemonic: string;
  readonly results: readonly OperandType[];
  readonly operands: readonly OperandType[];
  /** Least compute capability: 75, 80, 90. */
  readonly capability: number;
  /** True where only the very architecture has it (sm_90a): such code runs on no newer chip. */
  readonly exact: boolean;
  /** Its result depends on its operands alone, so that equal instructions may share one. */
  readonly pure: boolean;
}

type Row = readonly [name: string, signature: string, capability?: number | '90a'];

const INT = '{s16,u16,s32,u32,s64,u64}';
const COMPARE = '{eq,ne,lt,le,gt,ge}';

const ARITHMETIC: readonly Row[] = [
  ['add.{s16,u16,s32,u32,s64,u64}', 'T = T T'],
  ['sub.{s16,u16,s32,u32,s64,u64}', 'T = T T'],
  ['mul.lo.{s16,u16,s32,u32,s64,u64}', 'T = T T'],
  ['mul.hi.{s32,u32,s64,u64}', 'T = T T'],
  ['mul.wide.{s32,u32}', 'b64 = T T'],
  ['mad.lo.{s32,u32,s64,u64}', 'T = T T T'],
  ['mad.hi.{s32,u32}', 'T = T T T'],
  ['mad.wide.{s32,u32}', 'b64 = T T b64'],
  [`div.${INT}`, 'T = T T'],
  [`rem.${INT}`, 'T = T T'],
  [`min.${INT}`, 'T = T T'],
  [`max.${INT}`, 'T = T T'],
  ['neg.{s16,s32,s64}', 'T = T'],
  ['abs.{s16,s32,s64}', 'T = T'],
  ['dp4a.{s32,u32}.{s32,u32}', 's32 = b32 b32 s32'],
  ['popc.b32', 'u32 = b32'],
  ['{and,or,xor}.pred', 'pred = pred pred'],
  ['{and,or,xor}.b16', 'b16 = b16 b16'],
  ['{and,or,xor}.b32', 'b32 = b32 b32'],
  ['{and,or,xor}.b64', 'b64 = b64 b64'],
  ['not.{pred,b16,b32,b64}', 'T = T'],
  ['shl.{b16,b32,b64}', 'T = T u32'],
  ['shr.{b16,b32,b64,s16,u16,s32,u32,s64,u64}', 'T = T u32'],
  ['shf.{l,r}.wrap.b32', 'b32 = b32 b32 u32'],
  ['bfe.{s32,u32}', 'T = T u32 u32'],
  ['prmt.b32', 'b32 = b32 b32 b32'],
  ['lop3.b32', 'b32 = b32 b32 b32 imm'],

  ['add{,.rn}.{f32,f64}', 'T = T T'],
  ['sub{,.rn}.{f32,f64}', 'T = T T'],
  ['mul{,.rn}.{f32,f64}', 'T = T T'],
  ['fma.rn{,.sat}.f32', 'f32 = f32 f32 f32'],
  ['fma.rm.f32', 'f32 = f32 f32 f32'],
  ['fma.rn.f64', 'f64 = f64 f64 f64'],
  ['div.rn.{f32,f64}', 'T = T T'],
  ['div.{full,approx}.f32', 'f32 = f32 f32'],
  ['sqrt.rn.{f32,f64}', 'T = T'],
  ['sqrt.approx.f32', 'f32 = f32'],
  ['rcp.rn.{f32,f64}', 'T = T'],
  ['{rcp,rsqrt,ex2,lg2,sin,cos}.approx{,.ftz}.f32', 'f32 = f32'],
  ['tanh.approx.f32', 'f32 = f32'],
  ['neg.{f32,f64}', 'T = T'],
  ['abs.{f32,f64}', 'T = T'],
  ['min.{f32,f64}', 'T = T T'],
  ['max.{f32,f64}', 'T = T T'],
  ['{min,max}.NaN.f32', 'f32 = f32 f32', 80],
  ['copysign.{f32,f64}', 'T = T T'],

  ['{add,sub,mul}.{f16,f16x2}', 'T = T T'],
  ['fma.rn{,.relu}.{f16,f16x2}', 'T = T T T', 80],
  ['fma.rn.{bf16,bf16x2}', 'T = T T T', 80],
  ['{min,max}{,.NaN}.{f16,f16x2,bf16,bf16x2}', 'T = T T', 80],
  ['neg.{f16,f16x2}', 'T = T'],
  ['abs.{f16,f16x2}', 'T = T'],
  ['ex2.approx.{f16,f16x2}', 'T = T'],
  ['tanh.approx.{f16,f16x2}', 'T = T'],
];

const SELECTION: readonly Row[] = [
  ...['s32', 'u32', 's64', 'u64', 's16', 'u16', 'b16', 'b32', 'b64'].map(
    (type): Row => [`setp.${type.startsWith('b') ? '{eq,ne}' : COMPARE}.${type}`, `pred = ${type} ${type}`],
  ),
  ...['f32', 'f64'].map(
    (type): Row => [`setp.{eq,ne,lt,le,gt,ge,equ,neu,ltu,leu,gtu,geu,num,nan}.${type}`, `pred = ${type} ${type}`],
  ),
  ['selp.{b16,b32,b64,s32,u32,s64,u64,f32,f64}', 'T = T T pred'],
  ['mov.{pred,b16,b32,b64,s32,u32,s64,u64,f32,f64}', 'T = T'],
  ['mov.b32#toF32', 'f32 = b32'],
  ['mov.b32#ofF32', 'b32 = f32'],
  ['mov.b64#toF64', 'f64 = b64'],
  ['mov.b64#ofF64', 'b64 = f64'],
  ['mov.b32#pack', 'b32 = 2*b16'],
  ['mov.b64#pack', 'b64 = 2*b32'],
  ['mov.b32#unpack', '2*b16 = b32'],
  ['mov.b64#unpack', '2*b32 = b64'],
];

const CONVERSIONS: readonly Row[] = [
  // Float to float.
  ['cvt.f64.f32', 'f64 = f32'],
  ['cvt.rn.f32.f64', 'f32 = f64'],
  ['cvt.f32.f16', 'f32 = f16'],
  ['cvt.f32.bf16', 'f32 = bf16', 80],
  ['cvt.f64.f16', 'f64 = f16'],
  ['cvt.rn.f16.f32', 'f16 = f32'],
  ['cvt.rn.f16.f64', 'f16 = f64'],
  ['cvt.rn.bf16.f32', 'bf16 = f32', 80],
  ['cvt.rn{,.relu}.{f16x2,bf16x2}.f32', 'b32 = f32 f32', 80],
  ['cvt.rna.tf32.f32', 'b32 = f32', 80],
  ['cvt.{rni,rzi,rmi,rpi}.f32.f32', 'f32 = f32'],
  ['cvt.{rni,rzi,rmi,rpi}.f64.f64', 'f64 = f64'],
  // Float to integer: to nearest, toward zero; saturates.
  ['cvt.{rni,rzi}.{s8,u8,s16,u16,s32,u32}.{f32,f64}', 'b32 = T'],
  ['cvt.{rni,rzi}.{s64,u64}.{f32,f64}', 'b64 = T'],
  // Integer to float.
  ['cvt.rn.f32.{s32,u32,s64,u64}', 'f32 = T'],
  ['cvt.rn.f64.{s32,u32,s64,u64}', 'f64 = T'],
  // Integer to integer. Narrow sources are the low bits of a register of 32.
  ['cvt.{s64.s32,u64.u32}', 'b64 = b32'],
  ['cvt.u32.u64', 'b32 = b64'],
  ['cvt.{s32.s8,s32.s16,u32.u8,u32.u16}', 'b32 = b32'],
  ['cvt.u16.u32', 'b16 = b32'],
  ['cvt.{u32,s32}.{u16,s16}#b16', 'b32 = b16'],
  ['cvta.to.{global,shared}.u64', 'b64 = b64'],
];

const WARP: readonly Row[] = [
  ['shfl.sync.{bfly,down,up,idx}.b32', 'b32 = b32 b32 b32 b32'],
  ['vote.sync.{any,all}.pred', 'pred = pred b32'],
  ['vote.sync.ballot.b32', 'b32 = pred b32'],
  ['redux.sync.{add,min,max}.{s32,u32}', 'b32 = b32 b32', 80],
  ['bar.sync', ' = imm'],
  ['bar.sync#count', ' = imm u32'],
  ['bar.arrive', ' = imm u32'],
  ['bar.warp.sync', ' = b32'],
  ['membar.{cta,gl}', ' = '],
  ['fence.acq_rel.{cta,gpu}', ' = '],
  ['nanosleep.u32', ' = u32'],
];

const ATOMICS: readonly Row[] = [
  ['atom{,.global,.shared}.add.{u32,s32,u64,f32,f64}', 'T = mem T'],
  ['atom{,.global,.shared}.{min,max}.{u32,s32,u64,s64}', 'T = mem T'],
  ['atom{,.global,.shared}.exch.{b32,b64}', 'T = mem T'],
  ['atom{,.global,.shared}.cas.{b32,b64}', 'T = mem T T'],
  ['atom{.acquire,.release,.acq_rel}.gpu.global.add.u32', 'u32 = mem u32'],
  ['red{,.global,.shared}.add.{u32,s32,u64,f32,f64}', ' = mem T'],
  ['red{,.global}.add.noftz.f16x2', ' = mem f16x2'],
  ['red.release.gpu.global.add.u32', ' = mem u32'],
];

const MATRIX: readonly Row[] = [
  ['ldmatrix.sync.aligned.m8n8.x1{,.trans}.shared.b16', '1*b32 = mem'],
  ['ldmatrix.sync.aligned.m8n8.x2{,.trans}.shared.b16', '2*b32 = mem'],
  ['ldmatrix.sync.aligned.m8n8.x4{,.trans}.shared.b16', '4*b32 = mem'],
  ['stmatrix.sync.aligned.m8n8.x1{,.trans}.shared.b16', ' = mem 1*b32', 90],
  ['stmatrix.sync.aligned.m8n8.x2{,.trans}.shared.b16', ' = mem 2*b32', 90],
  ['stmatrix.sync.aligned.m8n8.x4{,.trans}.shared.b16', ' = mem 4*b32', 90],
  ['mma.sync.aligned.m16n8k8.row.col.f32.f16.f16.f32', '4*f32 = 2*b32 1*b32 4*f32'],
  ['mma.sync.aligned.m16n8k8.row.col.f32.bf16.bf16.f32', '4*f32 = 2*b32 1*b32 4*f32', 80],
  ['mma.sync.aligned.m16n8k16.row.col.f32.{f16.f16,bf16.bf16}.f32', '4*f32 = 4*b32 2*b32 4*f32', 80],
  ['mma.sync.aligned.m16n8k16.row.col.f16.f16.f16.f16', '2*b32 = 4*b32 2*b32 2*b32', 80],
  ['mma.sync.aligned.m16n8k4.row.col.f32.tf32.tf32.f32', '4*f32 = 2*b32 1*b32 4*f32', 80],
  ['mma.sync.aligned.m16n8k8.row.col.f32.tf32.tf32.f32', '4*f32 = 4*b32 2*b32 4*f32', 80],
  ['mma.sync.aligned.m16n8k16.row.col{,.satfinite}.s32.{s8,u8}.s8.s32', '4*b32 = 2*b32 1*b32 4*b32', 80],
  ['mma.sync.aligned.m16n8k32.row.col{,.satfinite}.s32.{s8,u8}.s8.s32', '4*b32 = 4*b32 2*b32 4*b32', 80],
];

const ASYNCHRONOUS: readonly Row[] = [
  ['cp.async.ca.shared.global', ' = mem mem imm', 80],
  ['cp.async.ca.shared.global#zfill', ' = mem mem imm u32', 80],
  ['cp.async.cg.shared.global{,.L2::128B,.L2::256B}', ' = mem mem imm', 80],
  ['cp.async.cg.shared.global{,.L2::128B,.L2::256B}#zfill', ' = mem mem imm u32', 80],
  ['cp.async.commit_group', ' = ', 80],
  ['cp.async.wait_group', ' = imm', 80],
  ['cp.async.wait_all', ' = ', 80],
  ['griddepcontrol.{wait,launch_dependents}', ' = ', 90],
  ['prefetch.global.{L1,L2}', ' = mem'],
  ['mbarrier.init.shared.b64', ' = mem u32', 80],
  ['mbarrier.inval.shared.b64', ' = mem', 80],
  ['mbarrier.arrive.shared.b64', 'b64 = mem', 80],
  ['mbarrier.arrive.expect_tx.shared.b64', 'b64 = mem u32', 90],
  ['mbarrier.test_wait.parity.shared.b64', 'pred = mem u32', 80],
  ['mbarrier.try_wait.parity.shared.b64', 'pred = mem u32', 90],
  ['fence.mbarrier_init.release.cluster', ' = ', 90],
  ['fence.proxy.async.shared::cta', ' = ', 90],
  ['cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes', ' = mem mem u32 mem', 90],
  ['barrier.cluster.arrive{,.relaxed}.aligned', ' = ', 90],
  ['barrier.cluster.wait.aligned', ' = ', 90],
  ['mapa.shared::cluster.u32', 'b32 = b32 u32', 90],
  ['setmaxnreg.{inc,dec}.sync.aligned.u32', ' = imm', '90a'],
  ['wgmma.fence.sync.aligned', ' = ', '90a'],
  ['wgmma.commit_group.sync.aligned', ' = ', '90a'],
  ['wgmma.wait_group.sync.aligned', ' = imm', '90a'],
];

/** d += a·b over 64 × n × 16 (8 for tf32), both operands described by shared-memory descriptors; `pred` says whether d is added. */
const WGMMA: readonly Row[] = [8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256].flatMap(
  (n): Row[] => {
    const d = `${n / 2}*f32`;
    return [
      [
        `wgmma.mma_async.sync.aligned.m64n${n}k16.f32.{f16.f16,bf16.bf16}`,
        `${d} = b64 b64 pred imm imm imm imm`,
        '90a',
      ],
      [`wgmma.mma_async.sync.aligned.m64n${n}k8.f32.tf32.tf32`, `${d} = b64 b64 pred imm imm`, '90a'],
    ];
  },
);

/** Rows whose result another thread, memory or a barrier decides. */
const EFFECTS = [WARP, ATOMICS, MATRIX, ASYNCHRONOUS, WGMMA];

/** Every reading of the braces in a name: the name, and the words that stand in them. */
function expand(name: string): { readonly name: string; readonly words: readonly string[] }[] {
  const open = name.indexOf('{');
  if (open < 0) return [{ name, words: [] }];
  const close = name.indexOf('}', open);
  const rest = expand(name.slice(close + 1));
  return name
    .slice(open + 1, close)
    .split(',')
    .flatMap((word) =>
      rest.map((tail) => ({ name: name.slice(0, open) + word + tail.name, words: [word, ...tail.words] })),
    );
}

function operandTypes(text: string, words: readonly string[]): OperandType[] {
  // T is the last word in braces that is a type: of a conversion, the type converted from.
  const type = words.filter((w) => /^(pred|[bsuf]\d+|bf16)(x2)?$/.test(w)).at(-1) ?? '';
  return text
    .split(' ')
    .filter((part) => part !== '')
    .map((part) => {
      const [count, name] = part.includes('*') ? part.split('*') : ['1', part];
      return { type: name === 'T' ? type : name, count: part.includes('*') ? Number(count) : 0 };
    });
}

function readTables(): ReadonlyMap<string, Instruction> {
  const table = new Map<string, Instruction>();
  for (const rows of [ARITHMETIC, SELECTION, CONVERSIONS, ...EFFECTS]) {
    for (const [pattern, signature, needs = 75] of rows) {
      const [results, operands] = signature.split('=');
      for (const { name, words } of expand(pattern)) {
        table.set(name, {
          mnemonic: name.split('#')[0],
          results: operandTypes(results, words),
          operands: operandTypes(operands, words),
          capability: needs === '90a' ? 90 : needs,
          exact: needs === '90a',
          pure: !EFFECTS.includes(rows),
        });
      }
    }
  }
  return table;
}

export const INSTRUCTIONS = readTables();

/** Throws Bug where no row has the name. */
export function instruction(name: string): Instruction {
  const row = INSTRUCTIONS.get(name);
  if (!row) throw new Bug('ptx-instruction', `no row of the instruction table is named "${name}"`);
  return row;
}

/** Architectures by compute capability with a PTX version that has all rows for them. Newer chips run the code of the last. */
const VERSIONS: readonly (readonly [capability: number, version: string])[] = [
  [75, '7.8'],
  [80, '7.8'],
  [86, '7.8'],
  [87, '7.8'],
  [89, '7.8'],
  [90, '8.0'],
];

/** `.version` and `.target` for a chip: the newest architecture that is not newer than it. Throws Bug below 75. */
export function architecture(capability: number): { readonly version: string; readonly target: string } {
  const row = VERSIONS.findLast(([least]) => least <= capability);
  if (!row) throw new Bug('ptx-architecture', `compute capability ${capability} is below 75`);
  return { version: row[1], target: `sm_${row[0]}` };
}
