/**
 * What MobileNets and EfficientNets are made of: convolution, norm and activation as one; squeeze-and-excitation
 * (https://arxiv.org/abs/1709.01507); widths rounded to what hardware likes.
 */
import type { Activation, ConvOptions, Network } from './network.ts';

/** torchvision's Conv2dNormActivation: `name.0` is the convolution, `name.1` the norm. */
export function convNorm(
  net: Network,
  name: string,
  x: string,
  from: number,
  to: number,
  options: Omit<ConvOptions, 'padding' | 'bias'>,
  activation: Activation,
  epsilon = 1e-5,
): string {
  const y = net.conv(`${name}.0`, x, from, to, { ...options, padding: (options.kernel - 1) / 2 });
  return net.activation(activation, net.batchNorm(`${name}.1`, y, to, epsilon));
}

export function squeezeExcite(
  net: Network,
  name: string,
  x: string,
  channels: number,
  squeezed: number,
  inner: Activation,
  gate: Activation,
): string {
  const pooled = net.conv(`${name}.fc1`, net.globalAvgPool(x), channels, squeezed, { kernel: 1, bias: true });
  const scale = net.conv(`${name}.fc2`, net.activation(inner, pooled), squeezed, channels, { kernel: 1, bias: true });
  return net.mul(net.activation(gate, scale), x);
}

/** The multiple of `divisor` nearest to n, but not below 0.9 n. */
export function divisible(n: number, divisor: number): number {
  const rounded = Math.max(divisor, Math.floor((n + divisor / 2) / divisor) * divisor);
  return rounded < 0.9 * n ? rounded + divisor : rounded;
}
