// Which frame, and for grey DICOM which window: as the command line's --frame and --window.

// (centre, width) in Hounsfield units, as runtime/pictures/view.py has them.
export const CT_WINDOWS = { abdomen: [50, 400], bone: [400, 1800], brain: [40, 80], lung: [-600, 1500], mediastinum: [50, 350] };

export class ViewForm {
  #form;

  /**
   * @param form with fields frame, preset, centre and width
   * @param onChange is called with { frame, window } (DicomPicture.show) when the user has chosen another
   */
  constructor(form, picture, onChange) {
    this.#form = form;
    const { frame, preset, centre, width } = form.elements;
    frame.max = picture.frames - 1;
    form.querySelector('.frames').textContent = `Frame, 0 to ${picture.frames - 1}`;
    offer(form, '.frame', picture.frames > 1);
    offer(form, '.window', picture.isGrey);
    form.hidden = picture.frames === 1 && !picture.isGrey;
    if (picture.isCt) {
      preset.append(...Object.entries(CT_WINDOWS).map(([name, values]) => new Option(`${name} (${values.join(', ')})`, name)));
    }
    const changed = () => {
      if (form.reportValidity()) onChange({ frame: frame.valueAsNumber, window: this.#window() });
    };
    form.addEventListener('submit', (event) => event.preventDefault());
    frame.addEventListener('change', changed);
    preset.addEventListener('change', () => {
      width.setCustomValidity('');
      changed();
    });
    for (const field of [centre, width]) {
      field.addEventListener('input', () => { preset.value = 'own'; });
      field.addEventListener('change', () => {
        width.setCustomValidity(width.valueAsNumber > 0 ? '' : 'The width must be greater than 0.');
        changed();
      });
    }
  }

  #window() {
    const { preset, centre, width } = this.#form.elements;
    if (preset.value === 'file') return null;
    if (preset.value === 'range') return 'range';
    if (preset.value === 'own') return { centre: centre.valueAsNumber, width: width.valueAsNumber };
    const [middle, wide] = CT_WINDOWS[preset.value];
    return { centre: middle, width: wide };
  }

  /** Put in what is shown (DicomPicture.show), but over nothing that the user has set: that may be newer. */
  show({ frame, window }) {
    const { elements } = this.#form;
    elements.frame.value ||= frame;
    if (!window) return;
    if (elements.preset.value === 'own') return;
    elements.centre.value = tidy(window.centre);
    elements.width.value = tidy(window.width);
    elements.width.setCustomValidity('');
  }
}

/** A field that isn't shown must not be asked for a value either. */
function offer(form, parts, isOffered) {
  form.querySelectorAll(parts).forEach((part) => {
    part.hidden = !isOffered;
    part.querySelector('input, select').disabled = !isOffered;
  });
}

/** What is shown, in words: for a caption. */
export function viewWords({ frame, window, image }, frames) {
  const words = [`${image.width} × ${image.height} pixels`];
  if (frames > 1) words.push(`frame ${frame} of 0 to ${frames - 1}`);
  if (window) {
    const whose = { file: ' (the file’s own)', levels: ' (all levels; the file states no window)', range: ' (all values; the file states no window)', all: ' (all values)', chosen: '' };
    words.push(`window centre ${tidy(window.centre)}, width ${tidy(window.width)}${whose[window.from]}`);
  }
  return words.join(', ');
}

const tidy = (value) => Number(value.toPrecision(7));
