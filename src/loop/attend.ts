/**
 * An attend's kernel from its form: the index space is batch, query and value axes, the body one pass over the keys that keeps the
 * greatest score so far, the sum of weights and the weighted sum of values, all rescaled where a greater score comes. No place holds the
 * scores. The online normalizer is Milakov and Gimelshein's ("Online normalizer calculation for softmax", 2018), its use for attention
 * Dao, Fu, Ermon, Rudra and Ré's ("FlashAttention", 2022).
 *
 *     for key:  dot = Σ over inner of q · k;  score = …;  next = max(most, score)
 *               sum = sum · exp(most - next) + exp(score - next)
 *               acc = acc · exp(most - next) + exp(score - next) · v;  most = next
 *     acc = acc / sum
 *
 * `most` begins at the least finite number, not at -inf: a masked score then has weight exp(-inf) = 0 even before any other, and a row
 * that is masked throughout ends as 0 / 0, NaN as the steps one by one give. A score of NaN or +inf makes its row NaN, as there.
 */
import { Bug } from '../core/errors.ts';
import { accessIndex, withoutRole } from './contract.ts';
import { add, binary, cast, constant, div, load, local, max, mul, select, sub, unary } from './expr.ts';
import type { Access, Attend, Axis, Buffer, Expr, Kernel, Stmt } from './ir.ts';

/** What no finite score is below. */
export const leastOf = (acc: Attend['acc']): number => (acc === 'f64' ? -Number.MAX_VALUE : -3.4028234663852886e38);

const setTo = (name: string, value: Expr): Stmt => ({ kind: 'let', local: name, dtype: value.dtype, value });

/** Statements before the scan over the keys. */
const BEFORE = 3;
/** Statements of the scan behind those of the score. */
const BEHIND = 6;

/** The body that `attendKernel` gives an attend. Throws Bug where an operand's buffer is not among `buffers`. */
export function attendBody(buffers: readonly Buffer[], form: Attend): readonly Stmt[] {
  const { acc: dtype } = form;
  const element = (access: Access): Expr => {
    const buffer = buffers.find((b) => b.name === access.buffer);
    if (!buffer) throw new Bug('loop-attend', `attend reads buffer "${access.buffer}", which the kernel does not have`);
    return cast(dtype, load(access.buffer, buffer.dtype, accessIndex(access)));
  };
  const [key] = axesOf(form, 'key');
  if (!key) throw new Bug('loop-attend', 'attend has no axis of keys');
  const [most, next, sum, acc, score] = ['most', 'next', 'sum', 'acc', 'score'].map((name) => local(name, dtype));
  const [keep, weight] = ['keep', 'weight'].map((name) => local(name, dtype));
  const dot: Stmt = {
    kind: 'reduce',
    local: 'dot',
    dtype,
    op: 'add',
    axes: axesOf(form, 'inner'),
    value: mul(element(form.q), element(form.k)),
  };
  const step: readonly Stmt[] = [
    setTo('next', max(most, score)),
    setTo('keep', unary('exp', sub(most, next))),
    setTo('weight', unary('exp', sub(score, next))),
    setTo('sum', add(mul(sum, keep), weight)),
    setTo('acc', add(mul(acc, keep), mul(weight, element(form.v)))),
    setTo('most', next),
  ];
  const mean = div(acc, sum);
  return [
    setTo('most', constant(dtype, leastOf(dtype))),
    setTo('sum', constant(dtype, 0)),
    setTo('acc', constant(dtype, 0)),
    { kind: 'scan', axis: key, body: [dot, ...form.score, ...step] },
    setTo('acc', form.empty === 'nan' ? mean : select(binary('gt', sum, constant(dtype, 0)), mean, constant(dtype, 0))),
    ...form.epilogue,
  ];
}

/** The kernel of an attend: axes batch, query and value in the order in which they stand in `form.axes`. */
export const attendKernel = (name: string, buffers: readonly Buffer[], form: Attend): Kernel => ({
  name,
  form,
  buffers,
  axes: outerAxes(form),
  body: attendBody(buffers, form),
});

/** The axes of a role, in the form's order. */
export const axesOf = (form: Attend, role: Attend['axes'][number]['role']): Axis[] =>
  form.axes.filter((a) => a.role === role).map(withoutRole);

/** The index space. */
export const outerAxes = (form: Attend): Axis[] =>
  form.axes.filter((a) => a.role !== 'key' && a.role !== 'inner').map(withoutRole);

/**
 * The form whose body this is, where `body` is `attendBody` of `form` with other statements in the places of score and epilogue;
 * undefined where anything else differs, by identity.
 */
export function attendOfBody(form: Attend, before: readonly Stmt[], body: readonly Stmt[]): Attend | undefined {
  const [scan, old] = [body[BEFORE], before[BEFORE]];
  if (scan?.kind !== 'scan' || old?.kind !== 'scan' || scan.body.length < 1 + BEHIND) return undefined;
  const score = scan.body.slice(1, -BEHIND);
  const fixed = (b: readonly Stmt[], s: readonly Stmt[]) => [
    ...b.slice(0, BEFORE),
    s[0],
    ...s.slice(-BEHIND),
    b[BEFORE + 1],
  ];
  const now = fixed(body, scan.body);
  if (!fixed(before, old.body).every((stmt, i) => stmt === now[i])) return undefined;
  return { ...form, score, epilogue: body.slice(BEFORE + 2) };
}
