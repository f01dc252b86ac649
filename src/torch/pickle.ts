/**
 * Python's pickle format as data: a stack machine that builds lists, tuples, dicts, numbers and strings, and nothing else.
 *
 * A pickle can name any function of the program that reads it and call it; that is how such files run code. Here a name is looked up
 * in a table given by the caller, and what is not in the table is refused by its name. Nothing recurses and nothing is allocated
 * beyond what the file has bytes for, so nesting, memo references and announced sizes cost a stranger's file at most its own length.
 * Opcodes and their arguments: CPython's Lib/pickletools.py.
 */
import { dataView } from '../core/bytes.ts';
import { ModelError } from '../core/errors.ts';

export type PickleValue =
  | null
  | boolean
  | number
  | bigint
  | string
  | Uint8Array
  | PickleValue[]
  | Map<PickleValue, PickleValue>
  | Tuple
  | PickleFunction
  | Opaque;

export interface Tuple {
  readonly kind: 'tuple';
  readonly items: readonly PickleValue[];
}
/** A callable of the caller's table. */
export interface PickleFunction {
  readonly kind: 'function';
  readonly call: (args: readonly PickleValue[]) => PickleValue;
}
/** Something that the caller's table made; the machine only carries it. */
export interface Opaque {
  readonly kind: 'opaque';
  readonly value: unknown;
}

export interface PickleSetting {
  /** What a global name stands for, by `module.name`; undefined refuses it. */
  readonly find: (name: string) => PickleValue | undefined;
  /** What a persistent id stands for. */
  readonly persistent: (id: PickleValue) => PickleValue;
}

export const tuple = (items: readonly PickleValue[]): Tuple => ({ kind: 'tuple', items });
export const isTuple = (value: PickleValue | undefined): value is Tuple =>
  typeof value === 'object' && value !== null && 'kind' in value && value.kind === 'tuple';
const isFunction = (value: PickleValue | undefined): value is PickleFunction =>
  typeof value === 'object' && value !== null && 'kind' in value && value.kind === 'function';

/** Digits or bytes of the longest integer that is read: none that a checkpoint needs is longer, and longer ones take long to convert. */
const LONGEST_INTEGER = 512;

const damaged = (what: string): ModelError => new ModelError('torch-parse', `the pickle is damaged: ${what}`);

/** The value of the pickle that starts at byte `at`, and where it ends. Throws ModelError `torch-parse` or `torch-refused`. */
export function unpickle(
  bytes: Uint8Array,
  at: number,
  setting: PickleSetting,
): { readonly value: PickleValue; readonly end: number } {
  const machine = new Machine(bytes, at, setting);
  const value = machine.run();
  return { value, end: machine.at };
}

class Machine {
  at: number;
  readonly #bytes: Uint8Array;
  readonly #view: DataView;
  readonly #setting: PickleSetting;
  #stack: PickleValue[] = [];
  /** Stacks below the open marks. */
  readonly #below: PickleValue[][] = [];
  readonly #memo = new Map<number, PickleValue>();
  readonly #decoder = new TextDecoder();

  constructor(bytes: Uint8Array, at: number, setting: PickleSetting) {
    this.#bytes = bytes;
    this.#view = dataView(bytes);
    this.at = at;
    this.#setting = setting;
  }

  run(): PickleValue {
    for (;;) {
      const code = this.#u8();
      if (code === STOP) {
        const value = this.#pop();
        if (this.#stack.length > 0 || this.#below.length > 0) throw damaged('values are left over at its end');
        return value;
      }
      const step = STEPS[code];
      if (step === undefined)
        throw damaged(`0x${code.toString(16)} at byte ${this.at - 1} is no opcode that data need`);
      step(this);
    }
  }

  // What steps are made of.

  push(value: PickleValue): void {
    this.#stack.push(value);
  }
  #pop(): PickleValue {
    const value = this.#stack.pop();
    if (value === undefined) throw damaged(`a value is missing before byte ${this.at}`);
    return value;
  }
  pop(): PickleValue {
    return this.#pop();
  }
  top(): PickleValue {
    const value = this.#stack.at(-1);
    if (value === undefined) throw damaged(`a value is missing before byte ${this.at}`);
    return value;
  }
  mark(): void {
    this.#below.push(this.#stack);
    this.#stack = [];
  }
  /** What was pushed since the last mark. */
  popMark(): PickleValue[] {
    const items = this.#stack;
    const below = this.#below.pop();
    if (below === undefined) throw damaged(`a mark is missing before byte ${this.at}`);
    this.#stack = below;
    return items;
  }
  hasValues(): boolean {
    return this.#stack.length > 0;
  }
  remember(index: number): void {
    this.#memo.set(index, this.top());
  }
  memoize(): void {
    this.remember(this.#memo.size);
  }
  recall(index: number): void {
    const value = this.#memo.get(index);
    if (value === undefined) throw damaged(`memo ${index} at byte ${this.at} was never set`);
    this.push(value);
  }
  global(module: PickleValue, name: PickleValue): void {
    const full = `${String(module)}.${String(name)}`;
    const value = this.#setting.find(full);
    if (value === undefined) throw refused(full);
    this.push(value);
  }
  call(callee: PickleValue, args: PickleValue): void {
    if (!isFunction(callee) || !isTuple(args))
      throw damaged(`a call before byte ${this.at} has no function or no arguments`);
    this.push(callee.call(args.items));
  }
  persistent(id: PickleValue): void {
    this.push(this.#setting.persistent(id));
  }
  setItems(target: PickleValue, items: readonly PickleValue[]): void {
    if (!(target instanceof Map) || items.length % 2 !== 0)
      throw damaged(`items before byte ${this.at} go into no dict`);
    for (let i = 0; i < items.length; i += 2) target.set(items[i], items[i + 1]);
  }
  append(target: PickleValue, items: readonly PickleValue[]): void {
    if (!Array.isArray(target)) throw damaged(`items before byte ${this.at} go into no list`);
    for (const item of items) target.push(item);
  }
  /** Attributes of an object. Those of a dict (`_metadata` of a state dict) say nothing about tensors; others belong to refused classes. */
  setState(): void {
    this.#pop();
    if (!(this.top() instanceof Map))
      throw damaged(`attributes before byte ${this.at} are set on something that is no dict`);
  }

  // Arguments.

  #take(count: number): number {
    const at = this.at;
    if (!(count >= 0) || at + count > this.#bytes.length)
      throw damaged(`it ends within byte ${at} of ${this.#bytes.length}`);
    this.at = at + count;
    return at;
  }
  #u8(): number {
    return this.#bytes[this.#take(1)];
  }
  uint(bytes: 1 | 2 | 4 | 8): number {
    const at = this.#take(bytes);
    switch (bytes) {
      case 1:
        return this.#bytes[at];
      case 2:
        return this.#view.getUint16(at, true);
      case 4:
        return this.#view.getUint32(at, true);
      case 8:
        return Number(this.#view.getBigUint64(at, true));
      default:
        return bytes satisfies never;
    }
  }
  int4(): number {
    return this.#view.getInt32(this.#take(4), true);
  }
  /** Big-endian, unlike all else. */
  float8(): number {
    return this.#view.getFloat64(this.#take(8), false);
  }
  data(count: number): Uint8Array {
    const at = this.#take(count);
    return this.#bytes.subarray(at, at + count);
  }
  text(count: number): string {
    return this.#decoder.decode(this.data(count));
  }
  line(): string {
    const end = this.#bytes.indexOf(10, this.at);
    if (end < 0) throw damaged(`a line that starts at byte ${this.at} has no end`);
    const text = this.text(end - this.at);
    this.at = end + 1;
    return text;
  }
  /** An integer of `count` bytes, little-endian, two's complement. */
  integer(count: number): number | bigint {
    if (count > LONGEST_INTEGER) throw damaged(`an integer of ${count} bytes at byte ${this.at}`);
    const digits = this.data(count);
    let value = 0n;
    for (let i = digits.length - 1; i >= 0; i--) value = (value << 8n) | BigInt(digits[i]);
    return plainInteger(BigInt.asIntN(8 * count, value));
  }
  decimal(): number | bigint {
    const text = this.line().replace(/L$/, '');
    if (!/^[+-]?\d{1,512}$/.test(text))
      throw damaged(`an integer before byte ${this.at} is ${JSON.stringify(text.slice(0, 20))}`);
    return plainInteger(BigInt(text));
  }
}

const plainInteger = (value: bigint): number | bigint =>
  value >= Number.MIN_SAFE_INTEGER && value <= Number.MAX_SAFE_INTEGER ? Number(value) : value;

const refused = (name: string): ModelError =>
  new ModelError(
    'torch-refused',
    `the checkpoint refers to ${name}, which tensors do not need: it is not read, and nothing is executed`,
    {
      hint: "In PyTorch, save weights alone: torch.save(model.state_dict(), 'weights.pth').",
    },
  );

const STOP = 0x2e;

type Step = (m: Machine) => void;
const char = (text: string): number => text.charCodeAt(0);

/** What each opcode does; the table is the whole instruction set. */
const STEPS: readonly (Step | undefined)[] = stepTable({
  [char('(')]: (m) => m.mark(),
  [char('0')]: (m) => (m.hasValues() ? void m.pop() : void m.popMark()),
  [char('1')]: (m) => void m.popMark(),
  [char('2')]: (m) => m.push(m.top()),
  [char('N')]: (m) => m.push(null),
  136: (m) => m.push(true),
  137: (m) => m.push(false),
  // '00' and '01' are booleans of protocol 0.
  [char('I')]: (m) => m.push(m.decimal()),
  [char('J')]: (m) => m.push(m.int4()),
  [char('K')]: (m) => m.push(m.uint(1)),
  [char('M')]: (m) => m.push(m.uint(2)),
  [char('L')]: (m) => m.push(m.decimal()),
  138: (m) => m.push(m.integer(m.uint(1))),
  139: (m) => m.push(m.integer(m.uint(4))),
  [char('F')]: (m) => m.push(Number(m.line())),
  [char('G')]: (m) => m.push(m.float8()),
  [char('S')]: (m) => m.push(m.line().replace(/^(['"])(.*)\1$/, '$2')),
  [char('T')]: (m) => m.push(m.text(m.uint(4))),
  [char('U')]: (m) => m.push(m.text(m.uint(1))),
  [char('V')]: (m) => m.push(m.line()),
  [char('X')]: (m) => m.push(m.text(m.uint(4))),
  140: (m) => m.push(m.text(m.uint(1))),
  141: (m) => m.push(m.text(m.uint(8))),
  [char('B')]: (m) => m.push(m.data(m.uint(4))),
  [char('C')]: (m) => m.push(m.data(m.uint(1))),
  142: (m) => m.push(m.data(m.uint(8))),
  150: (m) => m.push(m.data(m.uint(8))),
  [char(']')]: (m) => m.push([]),
  [char('l')]: (m) => m.push(m.popMark()),
  [char('a')]: (m) => {
    const item = m.pop();
    m.append(m.top(), [item]);
  },
  [char('e')]: (m) => {
    const items = m.popMark();
    m.append(m.top(), items);
  },
  [char(')')]: (m) => m.push(tuple([])),
  [char('t')]: (m) => m.push(tuple(m.popMark())),
  133: (m) => m.push(tuple([m.pop()])),
  134: (m) => m.push(tuple([m.pop(), m.pop()].reverse())),
  135: (m) => m.push(tuple([m.pop(), m.pop(), m.pop()].reverse())),
  [char('}')]: (m) => m.push(new Map()),
  [char('d')]: (m) => {
    const items = m.popMark();
    m.push(new Map());
    m.setItems(m.top(), items);
  },
  [char('s')]: (m) => {
    const [value, key] = [m.pop(), m.pop()];
    m.setItems(m.top(), [key, value]);
  },
  [char('u')]: (m) => {
    const items = m.popMark();
    m.setItems(m.top(), items);
  },
  // Sets are kept as lists: no tensor needs them, but they stand beside state dicts.
  143: (m) => m.push([]),
  144: (m) => {
    const items = m.popMark();
    m.append(m.top(), items);
  },
  145: (m) => m.push(m.popMark()),
  148: (m) => m.memoize(),
  [char('g')]: (m) => m.recall(Number(m.line())),
  [char('h')]: (m) => m.recall(m.uint(1)),
  [char('j')]: (m) => m.recall(m.uint(4)),
  [char('p')]: (m) => m.remember(Number(m.line())),
  [char('q')]: (m) => m.remember(m.uint(1)),
  [char('r')]: (m) => m.remember(m.uint(4)),
  [char('c')]: (m) => {
    const module = m.line();
    m.global(module, m.line());
  },
  147: (m) => {
    const [name, module] = [m.pop(), m.pop()];
    m.global(module, name);
  },
  [char('R')]: (m) => {
    const [args, callee] = [m.pop(), m.pop()];
    m.call(callee, args);
  },
  129: (m) => {
    const [args, callee] = [m.pop(), m.pop()];
    m.call(callee, args);
  },
  [char('b')]: (m) => m.setState(),
  [char('P')]: (m) => m.persistent(m.line()),
  [char('Q')]: (m) => m.persistent(m.pop()),
  128: (m) => void m.uint(1),
  149: (m) => void m.uint(8),
});

function stepTable(rows: Readonly<Record<number, Step>>): (Step | undefined)[] {
  const table: (Step | undefined)[] = new Array(256).fill(undefined);
  for (const [code, step] of Object.entries(rows)) table[Number(code)] = step;
  return table;
}
