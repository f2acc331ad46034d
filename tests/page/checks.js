// Looks at a report inside an iframe and lists what is wrong with it, one
// sentence per problem. It runs in the page around the report, so the report
// itself needs no script and can forbid every one.
'use strict';

function problemsOf(doc) {
  const problems = [];
  const view = doc.defaultView;
  const all = (selector) => [...doc.querySelectorAll(selector)];
  const name = (element) => {
    const text = (element.textContent || '').trim().replace(/\s+/g, ' ').slice(0, 40);
    return `<${element.localName}${element.id ? '#' + element.id : ''}> "${text}"`;
  };
  const wrong = (element, what) => problems.push(element ? `${name(element)} ${what}` : what);
  const shown = (element) => element.checkVisibility({ opacityProperty: true, visibilityProperty: true });

  structure();
  graphics();
  tables();
  targets();
  reflow();
  contrast();
  selfContained();
  return problems;

  function structure() {
    if (!doc.documentElement.lang) wrong(null, 'the page names no language');
    if (!doc.title.trim()) wrong(null, 'the page has no title');
    for (const [selector, landmark] of [['h1', 'h1'], ['main, [role=main]', 'main landmark']]) {
      const count = all(selector).length;
      if (count !== 1) wrong(null, `the page has ${count} of: ${landmark}`);
    }
    if (!doc.querySelector('body > header, [role=banner]')) wrong(null, 'the page has no header landmark');
    let level = 0;
    for (const heading of all('h1, h2, h3, h4, h5, h6')) {
      const next = Number(heading.localName[1]);
      if (next > level + 1) wrong(heading, `follows a heading of level ${level}`);
      if (!heading.textContent.trim()) wrong(heading, 'is empty');
      level = next;
    }
    const first = doc.querySelector('a[href], button, input, summary, [tabindex]');
    if (!first || !(first.getAttribute('href') || '').startsWith('#')) wrong(null, 'the first stop of the keyboard is no skip link');
    const ids = new Set();
    for (const element of all('[id]')) {
      if (ids.has(element.id)) wrong(element, 'shares its id with another element');
      ids.add(element.id);
    }
    for (const link of all('a[href^="#"]')) {
      const target = decodeURIComponent(link.getAttribute('href').slice(1));
      if (target && !ids.has(target)) wrong(link, `leads to #${target}, which is not there`);
    }
    for (const attribute of ['aria-labelledby', 'aria-describedby', 'aria-controls', 'headers', 'for']) {
      for (const element of all(`[${attribute}]`)) {
        for (const id of element.getAttribute(attribute).split(/\s+/)) {
          if (id && !ids.has(id)) wrong(element, `has ${attribute}="${id}", which is not there`);
        }
      }
    }
    for (const link of all('a[href], button')) {
      if (!link.textContent.trim() && !link.getAttribute('aria-label')) wrong(link, 'has no words');
    }
    for (const element of all('[tabindex]')) {
      if (Number(element.getAttribute('tabindex')) > 0) wrong(element, 'changes the order of the keyboard');
    }
  }

  function graphics() {
    for (const svg of all('svg')) {
      if (svg.closest('[aria-hidden=true]') || svg.parentElement.closest('svg')) continue;
      if (svg.getAttribute('role') !== 'img') wrong(svg, 'is no role="img"');
      const labelled = svg.getAttribute('aria-label') || svg.getAttribute('aria-labelledby') || svg.querySelector(':scope > title');
      if (!labelled) wrong(svg, 'has no text alternative');
    }
    for (const image of all('img')) if (!image.hasAttribute('alt')) wrong(image, 'has no text alternative');
  }

  function tables() {
    for (const table of all('table')) {
      if (!table.caption || !table.caption.textContent.trim()) wrong(table, 'has no caption');
      for (const cell of table.querySelectorAll('th')) if (!cell.getAttribute('scope')) wrong(cell, 'is a heading cell without scope');
      if (!table.querySelector('th[scope=col]')) wrong(table, 'has no column headings');
    }
  }

  // WCAG 2.2, 2.5.8: 24 by 24, or far enough from every other target; links in a sentence are exempt.
  function targets() {
    const inSentence = (element) => view.getComputedStyle(element).display === 'inline' && element.closest('p, li, td, th, dd, caption, figcaption');
    const boxes = all('a[href], button, summary, input, select').filter((element) => shown(element) && !inSentence(element))
      .map((element) => ({ element, box: element.getBoundingClientRect() })).filter(({ box }) => box.width > 1 && box.height > 1);
    const small = ({ box }) => box.width < 24 || box.height < 24;
    for (const one of boxes.filter(small)) {
      const x = (one.box.left + one.box.right) / 2, y = (one.box.top + one.box.bottom) / 2;
      for (const other of boxes) {
        if (other === one) continue;
        const dx = Math.max(other.box.left - x, 0, x - other.box.right), dy = Math.max(other.box.top - y, 0, y - other.box.bottom);
        if (Math.hypot(dx, dy) < 12) { wrong(one.element, 'is a target under 24 by 24 pixels, close to another'); break; }
      }
    }
  }

  function reflow() {
    const root = doc.documentElement;
    if (root.scrollWidth > root.clientWidth + 1) {
      const wide = all('body *').filter((element) => element.getBoundingClientRect().right > root.clientWidth + 1
        && ![...ancestors(element)].some((above) => ['auto', 'scroll', 'hidden'].includes(view.getComputedStyle(above).overflowX)));
      wrong(wide[0] || null, `makes the page ${root.scrollWidth} pixels wide in a window of ${root.clientWidth}`);
    }
    for (const element of all('body *')) {
      const style = view.getComputedStyle(element);
      const scrolls = ['auto', 'scroll'].includes(style.overflowX) && element.scrollWidth > element.clientWidth + 1;
      if (!scrolls) continue;
      if (element.getAttribute('tabindex') !== '0') wrong(element, 'scrolls sideways but not by keyboard (tabindex="0")');
      if (!element.getAttribute('aria-label') && !element.getAttribute('aria-labelledby')) wrong(element, 'scrolls sideways and has no label');
    }
  }

  function* ancestors(element) {
    for (let above = element.parentElement; above; above = above.parentElement) yield above;
  }

  // Text against what lies behind it: 4.5 to 1, large text 3 to 1.
  function contrast() {
    const seen = new Set();
    const walker = doc.createTreeWalker(doc.body, view.NodeFilter.SHOW_TEXT);
    for (let node = walker.nextNode(); node; node = walker.nextNode()) {
      const element = node.parentElement;
      if (!node.data.trim() || seen.has(element) || element.closest('title, desc, style, script, template, defs')) continue;
      seen.add(element);
      if (!shown(element)) continue;
      const style = view.getComputedStyle(element);
      const inGraphic = element.closest('svg');
      const colour = rgba(inGraphic ? style.fill : style.color);
      const behind = inGraphic ? behindGraphic(element) : background(element);
      if (!colour || !behind) continue;
      const size = parseFloat(style.fontSize), bold = Number(style.fontWeight) >= 700;
      const least = size >= 24 || (bold && size >= 18.66) ? 3 : 4.5;
      const found = ratio(over(colour, behind), behind);
      if (found < least - 0.005) wrong(element, `has contrast ${found.toFixed(2)}, at least ${least} is needed`);
    }
  }

  function rgba(text) {
    const numbers = /^rgba?\(([^)]+)\)$/.exec(text);
    if (!numbers) return null; // a pattern or a colour space that this check does not read
    const [r, g, b, a = 1] = numbers[1].split(/[\s,/]+/).filter(Boolean).map(Number);
    return [r, g, b, a];
  }

  function over(top, below) {
    return [0, 1, 2].map((at) => top[at] * top[3] + below[at] * (1 - top[3])).concat(1);
  }

  function background(element) {
    const layers = [];
    for (let at = element; at; at = at.parentElement) {
      const style = view.getComputedStyle(at);
      if (style.backgroundImage !== 'none') return null;
      const colour = rgba(style.backgroundColor);
      if (!colour) return null;
      if (colour[3] > 0) layers.push(colour);
      if (colour[3] === 1) break;
    }
    return layers.reverse().reduce((below, top) => over(top, below), [255, 255, 255, 1]);
  }

  // The topmost painted shape under the middle of a label, else the page.
  function behindGraphic(label) {
    const box = label.getBoundingClientRect();
    const stack = doc.elementsFromPoint((box.left + box.right) / 2, (box.top + box.bottom) / 2);
    for (const element of stack) {
      if (element === label || label.contains(element) || element.contains(label) || element.localName === 'text' || element.localName === 'tspan') continue;
      if (!element.closest('svg') || element.localName === 'svg') break;
      const style = view.getComputedStyle(element);
      if (style.fill === 'none') continue;
      const colour = rgba(style.fill);
      if (!colour) return null;
      return over(colour, background(label.closest('svg')) || [255, 255, 255, 1]);
    }
    return background(label.closest('svg'));
  }

  function ratio(one, other) {
    const light = (colour) => {
      const [r, g, b] = colour.slice(0, 3).map((value) => {
        const part = value / 255;
        return part <= 0.04045 ? part / 12.92 : ((part + 0.055) / 1.055) ** 2.4;
      });
      return 0.2126 * r + 0.7152 * g + 0.0722 * b;
    };
    const [high, low] = [light(one), light(other)].sort((a, b) => b - a);
    return (high + 0.05) / (low + 0.05);
  }

  function selfContained() {
    const inside = (address) => /^\s*(#|data:|$)/i.test(address);
    for (const element of all('[src], [srcset], [poster], [background], object[data], link[href], image, use')) {
      for (const attribute of ['src', 'srcset', 'poster', 'background', 'data', 'href', 'xlink:href']) {
        const address = element.getAttribute(attribute);
        if (address !== null && !inside(address)) wrong(element, `fetches ${attribute}="${address.slice(0, 80)}"`);
      }
    }
    const css = all('style').map((style) => style.textContent).concat(all('[style]').map((element) => element.getAttribute('style'))).join('\n');
    for (const [, address] of css.matchAll(/url\(\s*["']?([^"')]*)/gi)) if (!inside(address)) wrong(null, `a style fetches ${address.slice(0, 80)}`);
    if (/@import/i.test(css)) wrong(null, 'a style imports another');
    for (const element of all('script, iframe, object, embed, base, form[action^="http"], meta[http-equiv=refresh]')) wrong(element, 'has no place in a report');
    for (const element of all('*')) {
      for (const { name: attribute, value } of element.attributes) {
        if (/^on/i.test(attribute)) wrong(element, `carries a script in ${attribute}`);
        if (/^\s*(javascript|vbscript):/i.test(value) && /^(href|src|action|formaction|xlink:href)$/i.test(attribute)) wrong(element, `carries a script in ${attribute}`);
      }
    }
  }
}
