/**
 * A contract's kernel from its form: the index space is the axes that are not summed, the body a zero-initialised sum over the
 * k axes of a · b into local `acc`, then the epilogue. Templates read the form, generated code the body; both come from here.
 *
 *     reduce acc = add over (k..) of (a inside ? a[Σ at·stride] : 0) · (b inside ? b[…] : 0)
 */
import type { DType } from '../core/dtype.ts';
import { Bug } from '../core/errors.ts';
import { add, axis, binary, boundOf, cast, constant, index, inRange, load, mul, select } from './expr.ts';
import type { Access, Affine, Axis, Buffer, Contract, Expr, Kernel, Stmt } from './ir.ts';

/** Σ coef·axis + constant, as an i32 Expr. */
export const affineExpr = (affine: Affine): Expr =>
  add(
    affine.terms.reduce<Expr>((sum, term) => add(sum, mul(axis(term.axis), index(term.coef))), index(0)),
    index(affine.constant),
  );

/** Offset of the element in its buffer: Σ coordinate·stride. */
export const accessIndex = (access: Access): Expr =>
  access.dims.reduce<Expr>((sum, dim) => add(sum, mul(affineExpr(dim.at), index(dim.stride))), index(0));

/** True where every padded coordinate is inside its extent; undefined where no dim is padded. */
export function accessGuard(access: Access): Expr | undefined {
  const inside = access.dims.filter((dim) => dim.padded).map((dim) => inRange(affineExpr(dim.at), boundOf(dim)));
  return inside.length === 0 ? undefined : inside.reduce((a, b) => binary('and', a, b));
}

/** The element that an access reads, 0 outside a padded dim, as the accumulator's dtype. */
function accessValue(access: Access, dtype: DType, acc: DType): Expr {
  const element = cast(acc, load(access.buffer, dtype, accessIndex(access)));
  const guard = accessGuard(access);
  return guard ? select(guard, element, constant(acc, 0)) : element;
}

/** The body that `contractKernel` gives a contract. Throws Bug where an operand's buffer is not among `buffers`. */
export function contractBody(buffers: readonly Buffer[], form: Contract): readonly Stmt[] {
  const dtypeOf = (name: string): DType => {
    const buffer = buffers.find((b) => b.name === name);
    if (!buffer) throw new Bug('loop-contract', `contract reads buffer "${name}", which the kernel does not have`);
    return buffer.dtype;
  };
  const value = mul(
    accessValue(form.a, dtypeOf(form.a.buffer), form.acc),
    accessValue(form.b, dtypeOf(form.b.buffer), form.acc),
  );
  const axes = form.axes.filter((a) => a.role === 'k').map(withoutRole);
  return [{ kind: 'reduce', local: 'acc', dtype: form.acc, op: 'add', axes, value }, ...form.epilogue];
}

/** The kernel of a contract: axes batch, m and n in the order in which they stand in `form.axes`. */
export const contractKernel = (name: string, buffers: readonly Buffer[], form: Contract): Kernel => ({
  name,
  form,
  buffers,
  axes: form.axes.filter((a) => a.role !== 'k').map(withoutRole),
  body: contractBody(buffers, form),
});

/** The axis of a contract or an attend as one of the index space or of the sum. */
export const withoutRole = ({ role: _, ...axis }: Axis & { readonly role: string }): Axis => axis;
