/**
 * Operands and registers of PTX as JavaScript source: what a segment of lane-wise instructions is written with.
 *
 * A segment becomes one function that loops over the active lanes; inside, registers are local variables, loaded from the warp's
 * register file where the segment reads them first and stored back where others may read them. Values by register class: p boolean
 * (0 or 1), h 16 bits, i int32, f float32, q 64-bit (values.ts), d float64.
 */
import { bytesOf, type Entry, type Instruction, literalBits, type Operand, PtxError } from './parse.ts';
import { bitsToF32, wide, wideToF64 } from './values.ts';

export type RegClass = 'p' | 'h' | 'i' | 'f' | 'q' | 'd';

export function classOf(type: string): RegClass {
  if (type === 'pred') return 'p';
  if (type === 'f32') return 'f';
  if (type === 'f64') return 'd';
  const bytes = bytesOf(type);
  if (bytes === 8) return 'q';
  return bytes === 4 ? 'i' : 'h';
}

/** How a value of a type is held: f16 and bf16 as bits. */
export const holds = (type: string): RegClass =>
  type === 'f16' || type === 'bf16' ? 'h' : classOf(type === 'f16x2' || type === 'bf16x2' ? 'b32' : type);

/** File arrays of a warp by class; i and f share one. */
export const FILES: Readonly<Record<RegClass, string>> = { p: 'P', h: 'H', i: 'I', f: 'F', q: 'Q', d: 'D' };

/** From the class a register has to the class wanted. */
const CONVERT: Readonly<Record<string, (x: string) => string>> = {
  'i>f': (x) => `v.bitsToF32(${x})`,
  'f>i': (x) => `v.f32ToBits(${x})`,
  'q>d': (x) => `v.wideToF64(${x})`,
  'd>q': (x) => `v.f64ToWide(${x})`,
  'i>h': (x) => `(${x}&65535)`,
  'f>h': (x) => `(v.f32ToBits(${x})&65535)`,
  'q>h': (x) => `(v.low32(${x})&65535)`,
  'h>i': (x) => x,
  'h>q': (x) => x,
  'i>q': (x) => `(${x}>>>0)`,
  'q>i': (x) => `v.low32(${x})`,
  'f>q': (x) => `(v.f32ToBits(${x})>>>0)`,
};

export interface Layout {
  /** Offset of a register in its file. */
  readonly offset: ReadonlyMap<string, number>;
  readonly sizes: Readonly<Record<RegClass, number>>;
  /** Addresses of shared and local variables, constants. */
  readonly symbols: ReadonlyMap<string, number>;
  readonly params: ReadonlyMap<string, number>;
  /** Numbers of the module's variables, whose addresses the block knows. */
  readonly variables: ReadonlyMap<string, number>;
}

export class Codegen {
  readonly entry: Entry;
  readonly layout: Layout;
  readonly lines: string[] = [];
  /** Registers the segment touches: whether it reads them before it has surely written them, whether it writes. */
  readonly touched = new Map<string, { read: boolean; written: boolean }>();
  #guarded = false;
  #temp = 0;

  constructor(entry: Entry, layout: Layout) {
    this.entry = entry;
    this.layout = layout;
  }

  temp(): string {
    return `t${this.#temp++}`;
  }

  typeOf(name: string): string {
    const type = this.entry.regs.get(name);
    if (!type) throw new PtxError(`register ${name} is not declared`);
    return type;
  }

  isReg(o: Operand): o is Operand & { kind: 'reg' | 'name'; name: string } {
    return (o.kind === 'reg' || o.kind === 'name') && this.entry.regs.has(o.name);
  }

  #local(name: string, write: boolean): string {
    const t = this.touched.get(name) ?? { read: false, written: false };
    if (write) {
      if (this.#guarded && !t.written) t.read = true;
      t.written = true;
    } else if (!t.written) t.read = true;
    this.touched.set(name, t);
    return `${classOf(this.typeOf(name))}${this.layout.offset.get(name)}`;
  }

  /** The operand as a value of the type. */
  read(o: Operand | undefined, type: string): string {
    const want = holds(type);
    if (!o) throw new PtxError('an operand is missing');
    if (this.isReg(o)) {
      const have = classOf(this.typeOf(o.name));
      const x = this.#local(o.name, false);
      if (o.kind === 'reg' && o.negated) return `(${x}^1)`;
      return this.signs(have === want ? x : this.#convert(x, have, want), type);
    }
    if (o.kind === 'number') return this.#literal(o.text, type, want);
    if (o.kind === 'name') {
      const special = this.#special(o.name);
      if (special) return want === 'q' ? `(${special}>>>0)` : special;
      const variable = this.layout.variables.get(o.name);
      if (variable !== undefined) return `w.block.variables[${variable}]`;
      const address = this.layout.symbols.get(o.name) ?? this.layout.params.get(o.name);
      if (address !== undefined) return `${address}`;
    }
    throw new PtxError(`operand ${JSON.stringify(o)} is not a value`);
  }

  /** s16 and u32 differ from their registers' canonical forms. */
  signs(x: string, type: string): string {
    if (type === 's16') return `(${x}<<16>>16)`;
    if (type === 's8') return `(${x}<<24>>24)`;
    if (type === 'u8') return `(${x}&255)`;
    return type === 'u32' ? `(${x}>>>0)` : x;
  }

  #convert(x: string, have: RegClass, want: RegClass): string {
    const f = CONVERT[`${have}>${want}`];
    if (!f) throw new PtxError(`a register of class ${have} stands where class ${want} is wanted`);
    return f(x);
  }

  #literal(text: string, type: string, want: RegClass): string {
    const bits = literalBits(text, want === 'f' ? 'f32' : want === 'd' ? 'f64' : type);
    if (want === 'f') return number(bitsToF32(Number(BigInt.asIntN(32, bits))));
    if (want === 'd') return number(wideToF64(wide(bits)));
    if (want === 'p') return bits === 0n ? '0' : '1';
    if (want === 'h') return type === 's16' ? `(${BigInt.asIntN(16, bits)})` : `${BigInt.asUintN(16, bits)}`;
    if (want === 'i') return type === 'u32' ? `${BigInt.asUintN(32, bits)}` : `(${BigInt.asIntN(32, bits)})`;
    const w = wide(bits);
    return typeof w === 'number' ? `(${w})` : `(${w}n)`;
  }

  #special(name: string): string | undefined {
    const [, family, dim] = /^%(tid|ntid|ctaid|nctaid|cluster_ctaid|cluster_nctaid)\.([xyz])$/.exec(name) ?? [];
    if (family) return family === 'tid' ? `w.tid${dim}[l]` : `w.block.${family}.${dim}`;
    switch (name) {
      case '%laneid':
        return 'l';
      case '%warpid':
        return 'w.index';
      case '%cluster_ctarank':
        return 'w.block.rank';
      case '%lanemask_lt':
        return '((1<<l)-1)';
      case '%smid':
        return '0';
      case '%clock':
      case '%clock64':
      case '%globaltimer':
        return '0';
      default:
        return undefined;
    }
  }

  /** Assigns a value of the type to the operand. Bare integers are brought to their canonical form. */
  write(o: Operand | undefined, type: string, value: string): void {
    if (o?.kind === 'name' && o.name === '_') return;
    if (!o || !this.isReg(o)) throw new PtxError(`destination ${JSON.stringify(o)} is no register`);
    const have = holds(type);
    const want = classOf(this.typeOf(o.name));
    let x = value;
    if (have === 'i') x = `(${x})|0`;
    if (have === 'h')
      x = want === 'i' && type.startsWith('s') ? `(${x})<<${type === 's8' ? '24>>24' : '16>>16'}` : `(${x})&65535`;
    if (have === 'p') x = `(${x})?1:0`;
    if (have !== want) {
      if (have === 'h' && want === 'q' && type.startsWith('s')) x = `(${value})`;
      else if (have === 'i' && want === 'q' && type === 's32') x = `(${x})`;
      else if (!(have === 'h' && want === 'i')) x = this.#convert(`(${x})`, have, want);
    }
    this.lines.push(`${this.#local(o.name, true)}=${x};`);
  }

  /** Address of an operand in brackets, as a 64-bit value. */
  address(o: Operand | undefined): string {
    if (o?.kind !== 'address') throw new PtxError(`${JSON.stringify(o)} is no address`);
    if (!o.base) return `${o.offset}`;
    const isWide = this.isReg(o.base) ? classOf(this.typeOf(o.base.name)) === 'q' : false;
    const base = this.read(o.base, isWide ? 'b64' : 'u32');
    if (o.offset === 0) return base;
    return isWide ? `v.add64(${base},${o.offset})` : `(${base}+${o.offset})`;
  }

  /** Runs `body` where the instruction's guard holds. */
  guard(ins: Instruction, body: () => void): void {
    if (!ins.guard) {
      body();
      return;
    }
    const p = this.read({ kind: 'reg', name: ins.guard.reg, negated: ins.guard.negated }, 'pred');
    this.lines.push(`if(${p}){`);
    this.#guarded = true;
    body();
    this.#guarded = false;
    this.lines.push('}');
  }

  /** The segment's function over (w, L, n): `isShared` says whether other segments may read a register. */
  finish(isShared: (reg: string) => boolean): string {
    const head: string[] = [];
    const tail: string[] = [];
    for (const [name, t] of this.touched) {
      const c = classOf(this.typeOf(name));
      const at = `${FILES[c]}[${(this.layout.offset.get(name) as number) * 32}+l]`;
      head.push(
        t.read ? `let ${c}${this.layout.offset.get(name)}=${at};` : `let ${c}${this.layout.offset.get(name)}=0;`,
      );
      if (t.written && (isShared(name) || t.read)) tail.push(`${at}=${c}${this.layout.offset.get(name)};`);
    }
    return [
      'const {P,H,I,F,Q,D,base}=w;',
      'for(let i=0;i<n;i++){const l=L[i];w.lane=l;const t=base+l;',
      ...head,
      ...this.lines,
      ...tail,
      '}',
    ].join('\n');
  }
}

const number = (x: number): string =>
  Number.isNaN(x)
    ? 'NaN'
    : x === Infinity
      ? 'Infinity'
      : x === -Infinity
        ? '(-Infinity)'
        : Object.is(x, -0)
          ? '(-0)'
          : `(${x})`;
