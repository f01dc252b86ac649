/**
 * The text of a kernel back to the kernel; the inverse of print.ts, which describes the form.
 *
 * The text may come from a stranger's file: whatever it is, the answer is a kernel or ModelError `engine-parse` with a line number,
 * in time and stack bounded by limits on nesting and size. What parses is well formed; whether it is valid is verify.ts's to say.
 */
import type { DType } from '../core/dtype.ts';
import { attendKernel } from './attend.ts';
import { contractKernel } from './contract.ts';
import type { Access, AccessDim, Affine, Attend, Axis, Buffer, Contract, Form, Kernel, ReduceOp, Stmt } from './ir.ts';
import { ExprParser } from './parse-expr.ts';
import { TokenReader } from './tokens.ts';

/** Dims of an access, and terms of a coordinate. */
const MAX_TERMS = 64;
const REDUCE_OPS: ReadonlySet<string> = new Set<ReduceOp>(['add', 'mul', 'min', 'max']);
const ROLES = { contract: ['batch', 'm', 'n', 'k'], attend: ['batch', 'query', 'key', 'inner', 'value'] } as const;

/** Throws ModelError `engine-parse` and nothing else. */
export function parseKernel(text: string): Kernel {
  return new KernelParser(new TokenReader(text)).kernel();
}

class KernelParser {
  readonly #tokens: TokenReader;
  readonly #exprs: ExprParser;

  constructor(tokens: TokenReader) {
    this.#tokens = tokens;
    this.#exprs = new ExprParser(tokens);
  }

  kernel(): Kernel {
    this.#tokens.expect('kernel');
    const name = this.#tokens.name();
    this.#tokens.expect('=');
    const kind = this.#tokens.word('a form', (t) =>
      /^(map|move|reduce|attend|routine|contract)$/.test(t),
    ) as Form['kind'];
    const acc = kind === 'contract' || kind === 'attend' ? this.#tokens.dtype() : 'f32';
    const empty = kind === 'attend' ? this.#tokens.word('"nan" or "zero"', (t) => t === 'nan' || t === 'zero') : '';
    const routine = kind === 'routine' ? this.#tokens.name() : '';
    this.#tokens.expect('(');
    if (!this.#tokens.take(')')) {
      this.#exprs.buffers = this.#tokens.list(() => this.#buffer());
      this.#tokens.expect(')');
    }
    const kernel = this.#formed(name, kind, acc, empty as Attend['empty'], routine);
    if (this.#tokens.token.kind !== 'end') throw this.#tokens.error(this.#tokens.token.at, 'text after the kernel');
    return kernel;
  }

  #formed(name: string, kind: Form['kind'], acc: DType, empty: Attend['empty'], routine: string): Kernel {
    switch (kind) {
      case 'contract':
        return contractKernel(name, this.#exprs.buffers, this.#contract(acc));
      case 'attend':
        return this.#attend(name, acc, empty);
      case 'routine':
        return this.#plainKernel(name, { kind, name: routine });
      default:
        return this.#plainKernel(name, { kind });
    }
  }

  #plainKernel(name: string, form: Form): Kernel {
    const axes = this.#tokens.take('for') ? this.#tokens.list(() => this.#axis()) : [];
    return { name, form, buffers: this.#exprs.buffers, axes, body: this.#block() };
  }

  #buffer(): Buffer {
    const role = this.#tokens.word('"in" or "out"', (t) => t === 'in' || t === 'out') as Buffer['role'];
    const name = this.#tokens.name();
    this.#tokens.expect(':');
    const dtype = this.#tokens.dtype();
    this.#tokens.expect('[');
    const elements = this.#tokens.count();
    this.#tokens.expect(']');
    return { name, dtype, elements, role };
  }

  #axis(): Axis {
    const name = this.#tokens.name();
    this.#tokens.expect('<');
    return { name, ...this.#end() };
  }

  /** `128`, or `128 upto sizes[3]`. */
  #end(): Pick<Axis, 'extent' | 'limit'> {
    const extent = this.#tokens.count();
    return this.#tokens.take('upto') ? { extent, limit: this.#exprs.expr('i32') } : { extent };
  }

  /** Axes with what they are to the form. */
  #roles<R extends string>(roles: readonly R[]): (Axis & { readonly role: R })[] {
    if (!this.#tokens.take('for')) return [];
    return this.#tokens.list(() => {
      const role = this.#tokens.word('a role', (t) => (roles as readonly string[]).includes(t)) as R;
      return { ...this.#axis(), role };
    });
  }

  #attend(name: string, acc: DType, empty: Attend['empty']): Kernel {
    if (acc !== 'f32' && acc !== 'f64') this.#tokens.fail(`an attend cannot be computed in ${acc}`);
    const axes = this.#roles(ROLES.attend);
    if (axes.filter((a) => a.role === 'key').length !== 1) this.#tokens.fail('an attend has one axis of keys');
    const [q, k, v] = ['q', 'k', 'v'].map((which) => {
      this.#tokens.expect(which);
      return this.#access();
    });
    this.#exprs.locals.set('dot', acc);
    const score = this.#block();
    this.#exprs.locals.set('acc', acc);
    const epilogue = this.#block();
    return attendKernel(name, this.#exprs.buffers, { kind: 'attend', axes, q, k, v, acc, score, empty, epilogue });
  }

  #contract(acc: DType): Contract {
    const axes = this.#roles(ROLES.contract);
    this.#tokens.expect('a');
    const a = this.#access();
    this.#tokens.expect('b');
    const b = this.#access();
    this.#exprs.locals.set('acc', acc);
    return { kind: 'contract', axes, a, b, acc, epilogue: this.#block() };
  }

  #access(): Access {
    const buffer = this.#tokens.name();
    if (!this.#exprs.buffers.some((b) => b.name === buffer))
      this.#tokens.fail(`the kernel has no buffer ${JSON.stringify(buffer)}`);
    this.#tokens.expect('[');
    if (this.#tokens.take(']')) return { buffer, dims: [] };
    const dims = this.#tokens.list(() => this.#accessDim());
    this.#tokens.expect(']');
    if (dims.length > MAX_TERMS) this.#tokens.fail(`more than ${MAX_TERMS} dims`);
    return { buffer, dims };
  }

  #accessDim(): AccessDim {
    const at = this.#affine();
    this.#tokens.expect('<');
    const end = this.#end();
    this.#tokens.expect('stride');
    const stride = this.#tokens.int();
    return { at, ...end, stride, padded: this.#tokens.take('pad') };
  }

  /** `2*h - r + 1`: signed terms, then the constant. */
  #affine(): Affine {
    const terms: { axis: string; coef: number }[] = [];
    let constant = 0;
    for (let first = true; ; first = false) {
      const minus = this.#tokens.take('-');
      if (!first && !minus && !this.#tokens.take('+')) break;
      const sign = minus ? -1 : 1;
      if (this.#tokens.isName()) terms.push({ axis: this.#tokens.name(), coef: sign });
      else {
        const value = sign * this.#tokens.int();
        if (this.#tokens.take('*')) terms.push({ axis: this.#tokens.name(), coef: value });
        else constant = value === 0 ? 0 : value;
      }
      if (terms.length > MAX_TERMS) this.#tokens.fail(`more than ${MAX_TERMS} terms`);
    }
    return { terms, constant };
  }

  #block(): Stmt[] {
    this.#tokens.expect('{');
    return this.#tokens.nested(() => {
      const body: Stmt[] = [];
      while (!this.#tokens.take('}')) body.push(this.#stmt());
      return body;
    });
  }

  #stmt(): Stmt {
    if (this.#tokens.take('for')) return { kind: 'for', axis: this.#axis(), body: this.#block() };
    if (this.#tokens.take('scan')) {
      const axis = this.#axis();
      const condition = this.#tokens.take('while') ? { while: this.#exprs.expr('bool') } : {};
      return { kind: 'scan', axis, ...condition, body: this.#block() };
    }
    if (this.#tokens.take('if')) return { kind: 'if', cond: this.#exprs.expr('bool'), body: this.#block() };
    if (this.#tokens.take('let')) {
      const [local, dtype] = this.#declaration();
      const value = this.#exprs.expr(dtype);
      this.#exprs.locals.set(local, dtype);
      return { kind: 'let', local, dtype, value };
    }
    if (this.#tokens.take('reduce')) {
      const [local, dtype] = this.#declaration();
      const op = this.#tokens.word('a reduction', (t) => REDUCE_OPS.has(t)) as ReduceOp;
      const axes = this.#tokens.take('over') ? this.#tokens.list(() => this.#axis()) : [];
      this.#tokens.expect('of');
      const value = this.#exprs.expr(dtype);
      this.#exprs.locals.set(local, dtype);
      return { kind: 'reduce', local, dtype, op, axes, value };
    }
    const buffer = this.#tokens.name();
    this.#tokens.expect('[');
    const index = this.#exprs.expr('i32');
    this.#tokens.expect(']');
    this.#tokens.expect('=');
    return { kind: 'store', buffer, index, value: this.#exprs.expr(this.#exprs.bufferDType(buffer)) };
  }

  #declaration(): [string, DType] {
    const local = this.#tokens.name();
    this.#tokens.expect(':');
    const dtype = this.#tokens.dtype();
    this.#tokens.expect('=');
    return [local, dtype];
  }
}
