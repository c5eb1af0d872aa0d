/** Chooses the layer that tokens are coloured by, or the mean of all. */
import { element } from '../../page/dom.js'
import type { SampleLayer } from '../page-format.js'

/** `onChange` is told the place of the layer; undefined is the mean. */
export function layerSlider(
  layers: readonly SampleLayer[],
  onChange: (at: number | undefined) => void,
): HTMLElement {
  const slider = element('input', { type: 'range', min: '0', max: String(layers.length) })
  const name = element('output')
  const tell = () => {
    const at = slider.valueAsNumber
    name.textContent = at === 0 ? 'mean of layers' : `layer ${layers[at - 1]!.layer}`
    slider.ariaValueText = name.textContent
  }
  slider.value = '0'
  slider.addEventListener('input', () => {
    tell()
    onChange(slider.valueAsNumber === 0 ? undefined : slider.valueAsNumber - 1)
  })
  tell()
  return element('label', { class: 'row' }, 'Colour by ', slider, name)
}
