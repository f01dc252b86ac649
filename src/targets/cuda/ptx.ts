/**
 * The PTX builder: kernels written instruction by instruction with typed virtual registers; text out. Pure: same calls, same text.
 *
 *     const k = new PtxKernel('scale', 90);                              // for compute capability 9.0
 *     const [x, y] = [k.pointer(), k.pointer()];                        // parameters, in order: global addresses, b64
 *     const n = k.word();                                               // a u32 parameter, b32
 *     const i = k.op('mad.lo.u32', k.special('ctaid.x'), 256, k.special('tid.x'));
 *     k.if(k.op('setp.lt.u32', i, n), () => {
 *       const [v] = k.load('global.nc', 'f32', k.at(k.op('mad.wide.u32', i, 4, x)));
 *       k.store('global', 'f32', k.at(k.op('mad.wide.u32', i, 4, y)), [k.op('mul.f32', v, 0.5)]);
 *     });
 *     const text = moduleText(90, [k]);
 *
 * `op` makes the result's register; `to` writes registers that exist (accumulators, loop counters); `ops` gives a vector of results.
 * Every call is checked against the instruction's row in ptx-instructions.ts: operand count, register types, the chip.
 * JavaScript numbers are immediates of the operand's type. Equal pure instructions on registers that are written once share one
 * result within a scope, so address arithmetic may be asked for again and again. `when` predicates single instructions; `if`, `loop`
 * and `while` make labels.
 */
import { Bug } from '../../core/errors.ts';
import { architecture, type Instruction, instruction, type OperandType, type RegType } from './ptx-instructions.ts';

export interface Reg {
  readonly kind: 'register';
  readonly type: RegType;
  readonly name: string;
}

/** [base + offset bytes]. base is a b64 register for global and generic addresses, b32 for shared ones. */
export interface Address {
  readonly kind: 'address';
  readonly base: Reg;
  readonly byteOffset: number;
}

export type Operand = Reg | Address | number | bigint | readonly (Reg | number)[];

/** Elements as they lie in memory; narrow integers widen to a b32 register, b16 (f16, bf16) stays 16 bits. */
export type MemType = 'u8' | 's8' | 'u16' | 's16' | 'b16' | 'b32' | 'f32' | 'b64' | 'f64';

const MEMORY_REGISTER: { readonly [T in MemType]: RegType } = {
  u8: 'b32',
  s8: 'b32',
  u16: 'b32',
  s16: 'b32',
  b16: 'b16',
  b32: 'b32',
  f32: 'f32',
  b64: 'b64',
  f64: 'f64',
};

const PREFIX: { readonly [T in RegType]: string } = {
  pred: '%p',
  b16: '%h',
  b32: '%r',
  b64: '%d',
  f32: '%f',
  f64: '%g',
};

export const SPECIAL = [
  'tid.x',
  'tid.y',
  'tid.z',
  'ntid.x',
  'ctaid.x',
  'ctaid.y',
  'ctaid.z',
  'nctaid.x',
  'nctaid.y',
  'laneid',
  'warpid',
  'cluster_ctarank',
] as const;

export interface KernelLimits {
  /** Threads of a block, at most; ptxas divides registers by it. */
  readonly maxThreads?: number;
  readonly minBlocks?: number;
}

const float32 = new DataView(new ArrayBuffer(8));

/** The register type that an operand of a PTX type needs. */
function registerType(type: string): RegType {
  switch (type) {
    case 'pred':
    case 'f32':
    case 'f64':
      return type;
    case 'b16':
    case 's16':
    case 'u16':
    case 'f16':
    case 'bf16':
      return 'b16';
    case 'b64':
    case 's64':
    case 'u64':
      return 'b64';
    default:
      return 'b32';
  }
}

function immediate(type: string, value: number | bigint): string {
  if (type === 'f32') {
    float32.setFloat32(0, Number(value));
    return `0f${float32.getUint32(0).toString(16).toUpperCase().padStart(8, '0')}`;
  }
  if (type === 'f64') {
    float32.setFloat64(0, Number(value));
    return `0d${float32.getBigUint64(0).toString(16).toUpperCase().padStart(16, '0')}`;
  }
  if (typeof value === 'number' && !Number.isInteger(value)) throw new Bug('ptx-immediate', `${value} is no ${type}`);
  return `${typeof value === 'number' ? value + 0 : value}`;
}

export class PtxKernel {
  readonly name: string;
  readonly capability: number;
  readonly #limits: KernelLimits;
  readonly #lines: string[] = [];
  readonly #parameters: string[] = [];
  readonly #shared: string[] = [];
  readonly #counts = new Map<RegType, number>();
  /** Registers written more than once: results that read them are not shared. */
  readonly #mutable = new Set<string>();
  readonly #scopes: Map<string, Reg>[] = [new Map()];
  #guard: { readonly pred: Reg; readonly negated: boolean } | undefined;
  #labels = 0;
  #dynamic = false;
  #exact = false;

  constructor(name: string, capability: number, limits: KernelLimits = {}) {
    this.name = name;
    this.capability = capability;
    this.#limits = limits;
  }

  /** True where an instruction of the kernel exists on its very architecture only. */
  get exact(): boolean {
    return this.#exact;
  }

  get dynamicShared(): boolean {
    return this.#dynamic;
  }

  /** A register that may be written many times. */
  reg(type: RegType): Reg {
    const reg = this.#fresh(type);
    this.#mutable.add(reg.name);
    return reg;
  }

  #fresh(type: RegType): Reg {
    const count = (this.#counts.get(type) ?? 0) + 1;
    this.#counts.set(type, count);
    return { kind: 'register', type, name: `${PREFIX[type]}${count}` };
  }

  /** The next parameter, an address in global memory: b64. */
  pointer(): Reg {
    const reg = this.#parameter('u64');
    return this.op('cvta.to.global.u64', reg);
  }

  /** The next parameter, a u32: b32. */
  word(): Reg {
    return this.#parameter('u32');
  }

  #parameter(type: 'u32' | 'u64'): Reg {
    const name = `${this.name}_${this.#parameters.length}`;
    this.#parameters.push(`.param .${type} ${name}`);
    const reg = this.#fresh(type === 'u32' ? 'b32' : 'b64');
    this.#line(`ld.param.${type} ${reg.name}, [${name}];`);
    return reg;
  }

  /** Shared memory of a size known here: its address, b32. */
  shared(bytes: number, alignment = 16): Reg {
    const name = `${this.name}_shared${this.#shared.length}`;
    this.#shared.push(`.shared .align ${alignment} .b8 ${name}[${bytes}];`);
    return this.#symbol(name);
  }

  /** The start of the shared memory whose size the launch gives: b32, aligned to 1024. */
  sharedDynamic(): Reg {
    this.#dynamic = true;
    return this.#symbol(DYNAMIC);
  }

  #symbol(name: string): Reg {
    return this.#shareable(`symbol ${name}`, 'b32', (reg) => this.#line(`mov.u32 ${reg.name}, ${name};`));
  }

  special(name: (typeof SPECIAL)[number]): Reg {
    return this.#shareable(`special ${name}`, 'b32', (reg) => this.#line(`mov.u32 ${reg.name}, %${name};`));
  }

  at(base: Reg, byteOffset = 0): Address {
    return { kind: 'address', base, byteOffset };
  }

  /** The instruction's one result, in a register of its own. */
  op(name: string, ...operands: readonly Operand[]): Reg {
    const row = instruction(name);
    const [result] = row.results;
    if (row.results.length !== 1 || result.count > 1) throw new Bug('ptx-results', `${name} has not one result`);
    const emit = (reg: Reg): void => this.#emit(row, name, [result.count === 0 ? reg : [reg]], operands);
    const type = registerType(result.type);
    if (!row.pure || operands.some((operand) => this.#isMutable(operand))) {
      const reg = this.#fresh(type);
      emit(reg);
      return reg;
    }
    return this.#shareable(`${name} ${operands.map(keyOf).join()}`, type, emit);
  }

  /** The instruction's vector of results. */
  ops(name: string, ...operands: readonly Operand[]): Reg[] {
    const row = instruction(name);
    const [result] = row.results;
    const regs = Array.from({ length: result.count }, () => this.#fresh(registerType(result.type)));
    this.#emit(row, name, [regs], operands);
    return regs;
  }

  /** Writes the results into registers made by `reg`. */
  to(results: Reg | readonly Reg[], name: string, ...operands: readonly Operand[]): void {
    this.#emit(instruction(name), name, [results as Operand], operands);
  }

  /** An instruction without result. */
  do(name: string, ...operands: readonly Operand[]): void {
    this.#emit(instruction(name), name, [], operands);
  }

  move(to: Reg, from: Reg | number | bigint): void {
    this.to(to, `mov.${to.type}`, from);
  }

  /** ld.KIND of 1, 2 or 4 elements next to each other; the address must be a multiple of them all. KIND: 'global.nc', 'shared' … */
  load(kind: string, type: MemType, address: Address, count = 1): Reg[] {
    const regs = Array.from({ length: count }, () => this.#fresh(MEMORY_REGISTER[type]));
    this.loadTo(regs, kind, type, address);
    return regs;
  }

  loadTo(regs: readonly Reg[], kind: string, type: MemType, address: Address): void {
    this.#line(`ld.${kind}${vectorOf(regs)}.${type} ${listOf(regs)}, ${addressText(address)};`);
  }

  /** As load where `pred` holds, `fill` (as an integer, or a number for f32 and f64) elsewhere. */
  loadOr(pred: Reg, fill: number | bigint, kind: string, type: MemType, address: Address, count = 1): Reg[] {
    const regs = Array.from({ length: count }, () => this.#fresh(MEMORY_REGISTER[type]));
    for (const reg of regs) this.#line(`mov.${reg.type} ${reg.name}, ${immediate(reg.type, fill)};`);
    this.when(pred, () => this.loadTo(regs, kind, type, address));
    return regs;
  }

  store(kind: string, type: MemType, address: Address, values: readonly Reg[]): void {
    for (const { type: got } of values) {
      if (got !== MEMORY_REGISTER[type]) throw new Bug('ptx-store', `st.${type} of a ${got} register`);
    }
    this.#line(`st.${kind}${vectorOf(values)}.${type} ${addressText(address)}, ${listOf(values)};`);
  }

  /** Instructions of `body` run where `pred` holds: predicated one by one, so keep them few. No branches inside. */
  when(pred: Reg, body: () => void, negated = false): void {
    if (this.#guard) throw new Bug('ptx-guard', 'instructions are predicated already');
    this.#guard = { pred, negated };
    this.scope(body);
    this.#guard = undefined;
  }

  unless(pred: Reg, body: () => void): void {
    this.when(pred, body, true);
  }

  if(pred: Reg, then: () => void, otherwise?: () => void): void {
    const [skip, end] = [this.#label(), this.#label()];
    this.#line(`@!${pred.name} bra ${skip};`);
    this.scope(then);
    if (otherwise) this.#line(`bra ${end};`);
    this.#bind(skip);
    if (otherwise) {
      this.scope(otherwise);
      this.#bind(end);
    }
  }

  /**
   * for (i = from; i < to; i += step) body(i), signed, tested before the first round unless both ends are numbers. `goesOn` is asked at
   * the start of each round: the loop ends where its predicate is false.
   */
  loop(
    from: Reg | number,
    to: Reg | number,
    step: Reg | number,
    body: (i: Reg) => void,
    goesOn?: (i: Reg) => Reg,
  ): void {
    if (typeof from === 'number' && typeof to === 'number' && from >= to) return;
    const i = this.reg('b32');
    this.move(i, from);
    const again = this.#label();
    const certain = typeof from === 'number' && typeof to === 'number';
    const end = this.#label();
    const test = (): Reg => this.op('setp.lt.s32', i, to);
    if (!certain) this.#line(`@!${test().name} bra ${end};`);
    this.#bind(again);
    if (goesOn) this.scope(() => this.#line(`@!${goesOn(i).name} bra ${end};`));
    this.scope(() => body(i));
    this.to(i, 'add.s32', i, step);
    this.#line(`@${test().name} bra ${again};`);
    this.#bind(end);
  }

  /** Runs `body` again as long as the predicate that it returns holds. */
  doWhile(body: () => Reg): void {
    const again = this.#label();
    this.#bind(again);
    let pred: Reg | undefined;
    this.scope(() => {
      pred = body();
    });
    this.#line(`@${pred?.name} bra ${again};`);
  }

  /** Ends the thread. Threads that others wait for at a barrier must not. */
  exit(): void {
    this.#line('ret;');
  }

  /** Results that `body` shares are forgotten after it: it may not have run. */
  scope<T>(body: () => T): T {
    this.#scopes.push(new Map());
    try {
      return body();
    } finally {
      this.#scopes.pop();
    }
  }

  comment(text: string): void {
    this.#lines.push(`  // ${text}`);
  }

  /** The entry as text; moduleText puts entries together. */
  text(): string {
    const { maxThreads, minBlocks } = this.#limits;
    const registers = [...this.#counts].map(([type, n]) => `  .reg .${type} ${PREFIX[type]}<${n + 1}>;`).sort();
    return [
      `.visible .entry ${this.name}(${this.#parameters.length > 0 ? `\n  ${this.#parameters.join(',\n  ')}\n` : ''})`,
      ...(maxThreads ? [`.maxntid ${maxThreads}, 1, 1`] : []),
      ...(minBlocks ? [`.minnctapersm ${minBlocks}`] : []),
      '{',
      ...registers,
      ...this.#shared.map((line) => `  ${line}`),
      ...this.#lines,
      '  ret;',
      '}',
    ].join('\n');
  }

  #isMutable(operand: Operand): boolean {
    if (typeof operand !== 'object') return false;
    if (Array.isArray(operand)) return operand.some((x) => this.#isMutable(x));
    const reg = operand as Reg | Address;
    return this.#mutable.has(reg.kind === 'address' ? reg.base.name : reg.name);
  }

  #shareable(key: string, type: RegType, emit: (reg: Reg) => void): Reg {
    for (const scope of this.#scopes) {
      const known = scope.get(key);
      if (known) return known;
    }
    const reg = this.#fresh(type);
    emit(reg);
    this.#scopes[this.#scopes.length - 1].set(key, reg);
    return reg;
  }

  #emit(row: Instruction, name: string, results: readonly Operand[], operands: readonly Operand[]): void {
    if (row.capability > this.capability || (row.exact && row.capability !== this.capability)) {
      throw new Bug(
        'ptx-capability',
        `${name} needs sm_${row.capability}, kernel ${this.name} is for ${this.capability}`,
      );
    }
    if (row.exact) this.#exact = true;
    const types = [...row.results, ...row.operands];
    const all = [...results, ...operands];
    if (types.length !== all.length)
      throw new Bug('ptx-operands', `${name} takes ${types.length} operands, got ${all.length}`);
    const texts = all.map((operand, i) => operandText(name, types[i], operand));
    this.#line(`${row.mnemonic}${texts.length > 0 ? ` ${texts.join(', ')}` : ''};`);
  }

  #label(): string {
    return `$${this.name}_${++this.#labels}`;
  }

  #bind(label: string): void {
    this.#lines.push(`${label}:`);
  }

  #line(text: string): void {
    const guard = this.#guard ? `@${this.#guard.negated ? '!' : ''}${this.#guard.pred.name} ` : '';
    this.#lines.push(`  ${guard}${text}`);
  }
}

const keyOf = (operand: Operand): string => {
  if (typeof operand === 'number') return Object.is(operand, -0) ? '-0' : `${operand}`;
  if (typeof operand === 'bigint') return `${operand}`;
  if (Array.isArray(operand)) return `{${operand.map(keyOf).join()}}`;
  const one = operand as Reg | Address;
  return one.kind === 'register' ? one.name : addressText(one);
};

const addressText = ({ base, byteOffset }: Address): string =>
  `[${base.name}${byteOffset === 0 ? '' : `+${byteOffset}`}]`;
const listOf = (regs: readonly Reg[]): string =>
  regs.length === 1 ? regs[0].name : `{${regs.map((r) => r.name).join(', ')}}`;
const vectorOf = (regs: readonly Reg[]): string => (regs.length === 1 ? '' : `.v${regs.length}`);

function operandText(name: string, { type, count }: OperandType, operand: Operand): string {
  const wrong = (got: string): Bug =>
    new Bug('ptx-operand', `${name} wants ${count > 0 ? `${count}*` : ''}${type}, got ${got}`);
  if (Array.isArray(operand)) {
    const parts = operand as readonly (Reg | number)[];
    if (parts.length !== count) throw wrong(`a vector of ${parts.length}`);
    return `{${parts.map((part) => operandText(name, { type, count: 0 }, part)).join(', ')}}`;
  }
  if (count > 0) throw wrong('no vector');
  if (typeof operand === 'number' || typeof operand === 'bigint') {
    if (type === 'pred' || type === 'mem' || type === 'f16' || type === 'f16x2') throw wrong(`the number ${operand}`);
    return immediate(type, operand);
  }
  const one = operand as Reg | Address;
  if (one.kind === 'address') {
    if (type !== 'mem') throw wrong('an address');
    return addressText(one);
  }
  if (type === 'mem' || type === 'imm' || one.type !== registerType(type)) throw wrong(`a ${one.type} register`);
  return one.name;
}

/** The symbol of the shared memory whose size the launch gives. */
/** The symbol of the shared memory whose size the launch gives. */
export const DYNAMIC = 'dynamic';

/** An entry as a module takes it: a PtxKernel, or text that was written otherwise. */
export interface PtxEntry {
  readonly name: string;
  /** Whether it runs on its very architecture only (sm_90a). */
  readonly exact: boolean;
  /** Whether it names `dynamic`, the shared memory whose size the launch gives. */
  readonly dynamicShared: boolean;
  text(): string;
}

/** One module of several kernels for a chip. Kernels that use instructions of sm_90a alone make the module one of sm_90a. */
export function moduleText(capability: number, kernels: readonly PtxEntry[]): string {
  const { version, target } = architecture(capability);
  const suffix = kernels.some((k) => k.exact) ? 'a' : '';
  return [
    `.version ${version}`,
    `.target ${target}${suffix}`,
    '.address_size 64',
    ...(kernels.some((k) => k.dynamicShared) ? [`.extern .shared .align 1024 .b8 ${DYNAMIC}[];`] : []),
    ...kernels.map((k) => k.text()),
    '',
  ].join('\n');
}
