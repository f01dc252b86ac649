/**
 * One function's body, written in three-address form over virtual registers and turned into stack code at the end.
 *
 * In come instructions in execution order, each with the registers it reads and the one it writes; out go locals and bytes.
 * `finish` keeps their order and drops most of the traffic through locals (after LLVM's WebAssembly register stackification):
 * - an instruction that writes a register nobody reads, and does nothing else, is left out;
 * - a value written once, read once and produced right before its reader's later operands stays on the stack;
 * - constants are repeated where they are used; `local.set x; local.get x` becomes `local.tee x`;
 * - registers that live within one stretch of straight code share locals, which keeps compilers' frames and phis few.
 */
import { Bug } from '../../core/errors.ts';
import { type Bytes, EMPTY_BLOCK, encodeInstruction, type ImmediateValue, leb, VALTYPE_CODES } from './encode.ts';
import { INSTRUCTIONS, type InstructionName, type ValType } from './instructions.ts';

/** A virtual register; parameters are the first. */
export interface Local {
  readonly id: number;
  readonly type: ValType;
}

interface Node {
  readonly bytes: Bytes;
  readonly args: readonly Local[];
  readonly result: Local | undefined;
  /** May be left out when its result is not read. */
  readonly pure: boolean;
  /** Straight code ends here: blocks, branches and their ends. */
  readonly control: boolean;
}

/** Stack code: plain bytes, or an access to a register whose local is chosen last. */
type Token =
  | { readonly kind: 'bytes'; readonly bytes: Bytes; readonly control: boolean }
  | { readonly kind: 'get' | 'set' | 'tee'; readonly local: Local };

/** Operands nest as deep as this; a longer chain passes through a local. */
const MAX_DEPTH = 256;
const DROP: Token = { kind: 'bytes', bytes: encodeInstruction('drop'), control: false };
const CONTROL: ReadonlySet<InstructionName> = new Set<InstructionName>([
  'block',
  'loop',
  'if',
  'else',
  'end',
  'br',
  'br_if',
  'br_table',
  'return',
  'unreachable',
]);
const IMPURE = /load|store|atomic|^memory|^data|^call|^global|^i.*div|rem_[su]$|trunc_f/;
/** Instructions that neither trap nor touch anything beside their operands. */
const PURE: ReadonlySet<string> = new Set(
  Object.keys(INSTRUCTIONS).filter((name) => !CONTROL.has(name as InstructionName) && !IMPURE.test(name)),
);

export class FunctionBuilder {
  readonly params: readonly Local[];
  readonly #nodes: Node[] = [];
  readonly #constants = new Map<number, Bytes>();
  #count = 0;

  constructor(params: readonly ValType[]) {
    this.params = params.map((type) => this.local(type));
  }

  /** A fresh register. */
  local(type: ValType): Local {
    return { id: this.#count++, type };
  }

  /** A scalar constant. The register must not be written again. */
  constant(type: 'i32' | 'i64' | 'f32' | 'f64', value: number | bigint): Local {
    const local = this.local(type);
    this.#constants.set(local.id, encodeInstruction(`${type}.const`, [value]));
    return local;
  }

  /** Appends an instruction; its result goes into `into`, or a fresh register. */
  emit(name: InstructionName, args: readonly Local[], immediates: readonly ImmediateValue[] = [], into?: Local): Local {
    const type = into?.type ?? INSTRUCTIONS[name].result;
    if (type === undefined) throw new Bug('wasm-result', `${name} has no result to name`);
    const result = into ?? this.local(type);
    this.#push(name, args, immediates, result);
    return result;
  }

  /** Appends an instruction without result: a store, a branch, the start or end of a block. */
  effect(name: InstructionName, args: readonly Local[] = [], immediates: readonly ImmediateValue[] = []): void {
    this.#push(name, args, immediates, undefined);
  }

  /** Copies a register; the types are equal. */
  move(into: Local, from: Local): void {
    this.#nodes.push({ bytes: [], args: [from], result: into, pure: true, control: false });
  }

  block(body: () => void): void {
    this.#block('block', [], body);
  }

  /** `br` with depth 0 inside starts the body again. */
  loop(body: () => void): void {
    this.#block('loop', [], body);
  }

  if(cond: Local, then: () => void, otherwise?: () => void): void {
    this.#block('if', [cond], () => {
      then();
      if (otherwise) {
        this.effect('else');
        otherwise();
      }
    });
  }

  #block(name: 'block' | 'loop' | 'if', args: readonly Local[], body: () => void): void {
    this.effect(name, args, [EMPTY_BLOCK]);
    body();
    this.effect('end');
  }

  #push(
    name: InstructionName,
    args: readonly Local[],
    immediates: readonly ImmediateValue[],
    result: Local | undefined,
  ): void {
    const bytes = encodeInstruction(name, immediates);
    this.#nodes.push({ bytes, args, result, pure: PURE.has(name), control: CONTROL.has(name) });
  }

  /** Locals and instructions with the final `end`, as a code entry holds them (specification §5.5.13). */
  finish(): Bytes {
    const tokens = fuseTees(this.#stackCode());
    const { types, numbers } = assignLocals(tokens, this.params, this.#count);
    const out = localDeclarations(types);
    for (const token of tokens) {
      const bytes = token.kind === 'bytes' ? token.bytes : localAccess(token.kind, numbers[token.local.id]);
      for (const byte of bytes) out.push(byte);
    }
    out.push(...encodeInstruction('end'));
    return out;
  }

  /** From the last instruction to the first, each followed by what computes its operands; then turned round. */
  #stackCode(): Token[] {
    const nodes = this.#nodes;
    const reads = new Uint32Array(this.#count);
    const writes = new Uint32Array(this.#count);
    for (const param of this.params) writes[param.id]++;
    for (const { args, result } of nodes) {
      for (const arg of args) reads[arg.id]++;
      if (result) writes[result.id]++;
    }
    const constants = this.#constants;
    const reversed: Token[] = [];
    let cursor = nodes.length - 1;

    const isDead = (node: Node): boolean => node.pure && node.result !== undefined && reads[node.result.id] === 0;
    const skipDead = (): void => {
      for (; cursor >= 0 && isDead(nodes[cursor]); cursor--) for (const arg of nodes[cursor].args) reads[arg.id]--;
    };
    const emitTree = (depth: number): void => {
      const { bytes, args, control } = nodes[cursor--];
      if (bytes.length > 0) reversed.push({ kind: 'bytes', bytes, control });
      for (let i = args.length - 1; i >= 0; i--) {
        const { id } = args[i];
        const known = constants.get(id);
        if (known) {
          if (writes[id] > 0) throw new Bug('wasm-constant', 'a constant register was written');
          reversed.push({ kind: 'bytes', bytes: known, control: false });
          continue;
        }
        skipDead();
        const before = nodes[cursor];
        if (before?.result?.id === id && reads[id] === 1 && writes[id] === 1 && depth < MAX_DEPTH) {
          emitTree(depth + 1);
        } else reversed.push({ kind: 'get', local: args[i] });
      }
    };

    for (skipDead(); cursor >= 0; skipDead()) {
      const { result } = nodes[cursor];
      if (result) reversed.push(reads[result.id] === 0 ? DROP : { kind: 'set', local: result });
      emitTree(0);
    }
    return reversed.reverse();
  }
}

const ACCESS = {
  get: INSTRUCTIONS['local.get'].opcode[0],
  set: INSTRUCTIONS['local.set'].opcode[0],
  tee: INSTRUCTIONS['local.tee'].opcode[0],
} as const;
/** The most frequent instructions by far, so spared the way through the table. */
const localAccess = (kind: keyof typeof ACCESS, local: number): Bytes => [ACCESS[kind], ...leb(local)];

/** local.set x; local.get x → local.tee x */
function fuseTees(tokens: readonly Token[]): Token[] {
  const out: Token[] = [];
  for (const token of tokens) {
    const last = out[out.length - 1];
    if (token.kind === 'get' && last?.kind === 'set' && last.local.id === token.local.id) {
      out[out.length - 1] = { kind: 'tee', local: token.local };
    } else out.push(token);
  }
  return out;
}

/**
 * A wasm local for each register. A register that is first set and only used within one straight stretch gives its local back
 * after its last use; the others keep one of their own. Returns the types of the locals behind the parameters.
 */
function assignLocals(tokens: readonly Token[], params: readonly Local[], registers: number) {
  const UNSEEN = -1;
  const SPREAD = -2;
  const home = new Int32Array(registers).fill(UNSEEN);
  const lastUse = new Int32Array(registers);
  for (const { id } of params) home[id] = SPREAD;
  let stretch = 0;
  tokens.forEach((token, at) => {
    if (token.kind === 'bytes') {
      if (token.control) stretch++;
      return;
    }
    const { id } = token.local;
    lastUse[id] = at;
    if (home[id] === UNSEEN) home[id] = token.kind === 'get' ? SPREAD : stretch;
    else if (home[id] !== stretch) home[id] = SPREAD;
  });

  const numbers = new Int32Array(registers).fill(UNSEEN);
  const types: ValType[] = [];
  const free: Record<ValType, number[]> = { i32: [], i64: [], f32: [], f64: [], v128: [] };
  params.forEach(({ id }, i) => {
    numbers[id] = i;
  });
  tokens.forEach((token, at) => {
    if (token.kind === 'bytes') return;
    const { id, type } = token.local;
    if (numbers[id] === UNSEEN) {
      const reused = home[id] === SPREAD ? undefined : free[type].pop();
      numbers[id] = reused ?? params.length + types.push(type) - 1;
    }
    if (home[id] !== SPREAD && lastUse[id] === at) free[type].push(numbers[id]);
  });
  return { types, numbers };
}

/** Runs of equal types: a count and a type each. */
function localDeclarations(types: readonly ValType[]): number[] {
  const runs: { type: ValType; count: number }[] = [];
  for (const type of types) {
    const last = runs[runs.length - 1];
    if (last?.type === type) last.count++;
    else runs.push({ type, count: 1 });
  }
  return [...leb(runs.length), ...runs.flatMap(({ type, count }) => [...leb(count), VALTYPE_CODES[type]])];
}
