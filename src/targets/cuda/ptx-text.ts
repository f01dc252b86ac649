/**
 * Writes the text of one PTX entry, instruction by instruction, for templates that choose their instructions themselves.
 *
 * Registers are numbered by type as they are asked for; an instruction's result is a fresh register. Operands are text: registers,
 * numbers, labels. Nothing is checked here; ptxas and the interpreter of the tests do.
 */
export type PtxType = 'b16' | 'b32' | 'b64' | 'f32' | 'pred';

const PREFIX: Readonly<Record<PtxType, string>> = { b16: '%h', b32: '%r', b64: '%rd', f32: '%f', pred: '%p' };

export class PtxText {
  readonly #lines: string[] = [];
  readonly #counts = new Map<PtxType, number>();
  #labels = 0;

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

  newLabel(): string {
    return `L${this.#labels++}`;
  }
  label(name: string): void {
    this.#lines.push(`${name}:`);
  }

  /** The entry, with a 64-bit parameter for each name. */
  entry(name: string, params: readonly string[], directives: readonly string[]): string {
    const list = params.map((p) => `.param .u64 ${p}`).join(', ');
    const regs = [...this.#counts].map(([type, n]) => `  .reg .${type} ${PREFIX[type]}<${n}>;`);
    return [`.visible .entry ${name}(${list})`, ...directives, '{', ...regs, ...this.#lines, '}', ''].join('\n');
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
