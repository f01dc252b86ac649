/**
 * ResNet, ResNeXt and Wide-ResNet as torchvision has them: https://arxiv.org/abs/1512.03385, 1611.05431, 1605.07146. The stride of a
 * bottleneck is in its 3x3 convolution.
 */
import type { Architecture, Family } from './architecture.ts';
import type { Network } from './network.ts';

interface ResNet {
  readonly bottleneck: boolean;
  readonly depths: readonly number[];
  readonly groups?: number;
  readonly widthPerGroup?: number;
}

function block(net: Network, name: string, x: string, from: number, planes: number, stride: number, config: ResNet) {
  const { bottleneck, groups = 1, widthPerGroup = 64 } = config;
  const to = bottleneck ? planes * 4 : planes;
  const layer = (n: number, y: string, a: number, b: number, kernel: number, s = 1, g = 1): string =>
    net.batchNorm(
      `${name}.bn${n}`,
      net.conv(`${name}.conv${n}`, y, a, b, { kernel, stride: s, padding: (kernel - 1) / 2, groups: g }),
      b,
    );
  let y: string;
  if (bottleneck) {
    const width = Math.floor((planes * widthPerGroup) / 64) * groups;
    y = net.relu(layer(1, x, from, width, 1));
    y = net.relu(layer(2, y, width, width, 3, stride, groups));
    y = layer(3, y, width, to, 1);
  } else {
    y = net.relu(layer(1, x, from, planes, 3, stride));
    y = layer(2, y, planes, planes, 3);
  }
  const identity =
    stride === 1 && from === to
      ? x
      : net.batchNorm(`${name}.downsample.1`, net.conv(`${name}.downsample.0`, x, from, to, { kernel: 1, stride }), to);
  return { y: net.relu(net.add(y, identity)), to };
}

function define(net: Network, input: string, config: ResNet): string {
  let x = net.conv('conv1', input, 3, 64, { kernel: 7, stride: 2, padding: 3 });
  x = net.maxPool(net.relu(net.batchNorm('bn1', x, 64)), { kernel: 3, stride: 2, padding: 1 });
  let channels = 64;
  for (const [stage, depth] of config.depths.entries()) {
    for (let i = 0; i < depth; i++) {
      const stride = stage > 0 && i === 0 ? 2 : 1;
      const { y, to } = block(net, `layer${stage + 1}.${i}`, x, channels, 64 << stage, stride, config);
      x = y;
      channels = to;
    }
  }
  return net.linear('fc', net.flatten(net.globalAvgPool(x)), channels, net.rows('fc.weight', 1000));
}

const resnet = (name: string, config: ResNet): Architecture => ({
  name,
  imageSize: 224,
  define: (net, x) => define(net, x, config),
});
const D50 = [3, 4, 6, 3];
const D101 = [3, 4, 23, 3];

export const RESNET: Family = {
  marks: ['conv1.weight', 'bn1.weight', 'layer1.0.conv1.weight', 'layer4.0.conv1.weight'],
  members: [
    resnet('resnet18', { bottleneck: false, depths: [2, 2, 2, 2] }),
    resnet('resnet34', { bottleneck: false, depths: D50 }),
    resnet('resnet50', { bottleneck: true, depths: D50 }),
    resnet('resnet101', { bottleneck: true, depths: D101 }),
    resnet('resnet152', { bottleneck: true, depths: [3, 8, 36, 3] }),
    resnet('resnext50_32x4d', { bottleneck: true, depths: D50, groups: 32, widthPerGroup: 4 }),
    resnet('resnext101_32x8d', { bottleneck: true, depths: D101, groups: 32, widthPerGroup: 8 }),
    resnet('resnext101_64x4d', { bottleneck: true, depths: D101, groups: 64, widthPerGroup: 4 }),
    resnet('wide_resnet50_2', { bottleneck: true, depths: D50, widthPerGroup: 128 }),
    resnet('wide_resnet101_2', { bottleneck: true, depths: D101, widthPerGroup: 128 }),
  ],
};
