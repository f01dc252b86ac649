/**
 * Writes the text of one PTX entry, instruction by instruction, for templates that choose their instructions themselves.
 *
 * Registers are numbered by type as they are asked for; an instruction's result is a fresh register. Operands are text: registers,
 * numbers, labels. Nothing is checked here; ptxas and the interpreter of the tests do.
 */
import { DYNAMIC } from './ptx.ts';

export type PtxType = 'b16' | 'b32' | 'b64' | 'f32' | 'pred';

const PREFIX: Readonly<Record<PtxType, string>> = { b16: '%h', b32: '%r', b64: '%rd', f32: '%f', pred: '%p' };

export class PtxText {
  readonly name: string;
  /** True where only the very architecture has its instructions. */
  readonly exact: boolean;
  readonly #params: readonly string[];
  readonly #directives: readonly string[];
  readonly #lines: string[] = [];
  readonly #counts = new Map<PtxType, number>();
  readonly #tables: string[] = [];
  #labels = 0;
  #dynamic = false;

  /** `params` are 64-bit. */
  constructor(name: string, params: readonly string[], directives: readonly string[], exact = false) {
    this.name = name;
    this.exact = exact;
    this.#params = params;
    this.#directives = directives;
  }

  get dynamicShared(): boolean {
    return this.#dynamic;
  }

  /** The name of a parameter. */
  param(index: number): string {
    return `${this.name}_${this.#params[index]}`;
  }

  reg(type: PtxType): string {
    const n = this.#counts.get(type) ?? 0;
    this.#counts.set(type, n + 1);
    return `${PREFIX[type]}${n}`;
  }

  regs(type: PtxType, count: number): string[] {
    return Array.from({ length: count }, () => this.reg(type));
  }

  line(text: string): void {
    this.#lines.push(`  ${text};`);
  }

  /** `name result, operands`: the result, a fresh register. */
  op(type: PtxType, name: string, ...operands: readonly (string | number)[]): string {
    const d = this.reg(type);
    this.line(`${name} ${[d, ...operands].join(', ')}`);
    return d;
  }

  /** The start of the shared memory whose size the launch says. */
  sharedStart(): string {
    this.#dynamic = true;
    return this.op('b32', 'mov.u32', DYNAMIC);
  }

  /** The address of a table of 32-bit integers that comes with the entry. */
  globalTable(name: string, values: readonly number[]): string {
    const symbol = `${this.name}_${name}`;
    this.#tables.push(`.global .align 16 .b32 ${symbol}[${values.length}] = {${values.join(', ')}};\n`);
    return this.op('b64', 'mov.u64', symbol);
  }

  newLabel(): string {
    return `$${this.name}_${this.#labels++}`;
  }
  label(name: string): void {
    this.#lines.push(`${name}:`);
  }

  /** The entry. */
  text(): string {
    const params = this.#params.map((_, i) => `.param .u64 ${this.param(i)}`).join(', ');
    const regs = [...this.#counts].map(([type, n]) => `  .reg .${type} ${PREFIX[type]}<${n}>;`);
    return [
      ...this.#tables,
      `.visible .entry ${this.name}(${params})`,
      ...this.#directives,
      '{',
      ...regs,
      ...this.#lines,
      '  ret;',
      '}',
      '',
    ].join('\n');
  }
}

/** A float32 immediate. */
export function floatBits(x: number): string {
  const view = new DataView(new ArrayBuffer(4));
  view.setFloat32(0, x);
  return `0f${view.getUint32(0).toString(16).toUpperCase().padStart(8, '0')}`;
}

/** Σ coef·register + constant, in 32 bits. */
export function linearSum(
  w: PtxText,
  terms: readonly (readonly [reg: string, coef: number])[],
  constant: number,
): string {
  let sum: string | undefined;
  for (const [reg, coef] of terms) {
    if (coef === 0) continue;
    if (sum === undefined)
      sum =
        coef === 1
          ? constant === 0
            ? reg
            : w.op('b32', 'add.s32', reg, constant)
          : w.op('b32', 'mad.lo.s32', reg, coef, constant);
    else sum = coef === 1 ? w.op('b32', 'add.s32', sum, reg) : w.op('b32', 'mad.lo.s32', reg, coef, sum);
  }
  return sum ?? w.op('b32', 'mov.b32', constant);
}

/** The digits of a number in a mixed radix, outermost first; the outermost digit is what is left. */
export function digitsOf(w: PtxText, value: string, extents: readonly number[]): string[] {
  const digits: string[] = [];
  let rest = value;
  for (let i = extents.length - 1; i > 0; i--) {
    const quotient = w.op('b32', 'div.u32', rest, extents[i]);
    digits.unshift(w.op('b32', 'mad.lo.s32', quotient, -extents[i], rest));
    rest = quotient;
  }
  return extents.length > 0 ? [rest, ...digits] : [];
}
