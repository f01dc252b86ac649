/**
 * The statements of a kernel that its form does not imply: all of the body, or what a contract or an attend carries. Passes over kernels
 * rewrite these, and the body follows.
 */
import { attendKernel, axesOf } from './attend.ts';
import { contractKernel } from './contract.ts';
import type { Axis, Kernel, Stmt } from './ir.ts';

/** The kernel with its own statements rewritten. `axes` are those that the statements stand under, as far as the form makes them. */
export function mapOwnStatements(
  kernel: Kernel,
  rewrite: (body: readonly Stmt[], axes: readonly Axis[]) => readonly Stmt[],
): Kernel {
  const { form, name, buffers, axes } = kernel;
  switch (form.kind) {
    case 'contract':
      return contractKernel(name, buffers, { ...form, epilogue: rewrite(form.epilogue, axes) });
    case 'attend': {
      const score = rewrite(form.score, [...axes, ...axesOf(form, 'key')]);
      return attendKernel(name, buffers, { ...form, score, epilogue: rewrite(form.epilogue, axes) });
    }
    default:
      return { ...kernel, body: rewrite(kernel.body, axes) };
  }
}
