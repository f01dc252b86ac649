/**
 * A kernel with open sizes as it is at some of them: words of the table are constants, axes end where their limits say.
 * Its buffers, and how memory is laid out, stay as they were.
 */
import { attendKernel } from '../loop/attend.ts';
import { contractKernel } from '../loop/contract.ts';
import * as e from '../loop/expr.ts';
import type { Access, Axis, Expr, Kernel, Stmt } from '../loop/ir.ts';
import { TABLE } from './size-table.ts';

/** `words` are the elements of the table. */
export const kernelAt = (kernel: Kernel, words: readonly number[]): Kernel =>
  withWords(kernel, (slot) => e.index(words[slot]));

/** The words of the table that a kernel reads. */
export function wordsOf(kernel: Kernel): ReadonlySet<number> {
  const words = new Set<number>();
  withWords(kernel, (slot) => {
    words.add(slot);
    return e.index(0);
  });
  return words;
}

function withWords(kernel: Kernel, word: (slot: number) => Expr): Kernel {
  if (!kernel.buffers.some((b) => b.name === TABLE)) return kernel;
  const done = new Map<Expr, Expr>();
  const at = (x: Expr): Expr => {
    const known = done.get(x);
    if (known) return known;
    const isWord = x.kind === 'load' && x.buffer === TABLE && x.index.kind === 'const';
    const made = isWord ? word(Number((x.index as { value: number }).value)) : e.mapChildren(x, at);
    done.set(x, made);
    return made;
  };
  const end = <A extends Pick<Axis, 'extent' | 'limit'>>({
    limit,
    ...axis
  }: A): Omit<A, 'limit'> & { extent: number } => {
    const most = limit && at(limit);
    return { ...axis, extent: most?.kind === 'const' ? Math.min(axis.extent, Number(most.value)) : axis.extent };
  };
  const axisAt = <A extends Axis>(axis: A): A => end(axis) as unknown as A;
  const access = (a: Access): Access => ({ ...a, dims: a.dims.map((dim) => end(dim) as typeof dim) });
  const body = (stmts: readonly Stmt[]): Stmt[] => stmts.map(stmt);
  const stmt = (s: Stmt): Stmt => {
    switch (s.kind) {
      case 'for':
      case 'scan':
        return { ...e.mapCondition(s, at), axis: axisAt(s.axis), body: body(s.body) };
      case 'if':
        return { ...s, cond: at(s.cond), body: body(s.body) };
      case 'let':
        return { ...s, value: at(s.value) };
      case 'reduce':
        return { ...s, axes: s.axes.map(axisAt), value: at(s.value) };
      case 'store':
        return { ...s, index: at(s.index), value: at(s.value) };
      default:
        return s satisfies never;
    }
  };
  const { form, name, buffers } = kernel;
  if (form.kind === 'attend') {
    const [q, k, v] = [form.q, form.k, form.v].map(access);
    const [score, epilogue] = [form.score, form.epilogue].map(body);
    return attendKernel(name, buffers, { ...form, axes: form.axes.map(axisAt), q, k, v, score, epilogue });
  }
  if (form.kind !== 'contract') return { ...kernel, axes: kernel.axes.map(axisAt), body: body(kernel.body) };
  const [a, b] = [access(form.a), access(form.b)];
  return contractKernel(name, buffers, { ...form, axes: form.axes.map(axisAt), a, b, epilogue: body(form.epilogue) });
}
