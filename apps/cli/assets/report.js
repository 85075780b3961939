/* Draws the timeline of a report with uPlot, from the data in the page; everything else is in the page already. */
/* global uPlot, document, window, matchMedia */
;(() => {
  const data = JSON.parse(document.getElementById('timeline-data').textContent)
  const root = document.documentElement
  const colour = (name) => {
    const probe = document.createElement('i')
    probe.style.color = `var(--${name})`
    document.body.append(probe)
    const value = getComputedStyle(probe).color
    probe.remove()
    return value
  }
  const bytes = (value) => {
    if (value === null || value === undefined) return '–'
    const units = ['B', 'kB', 'MB', 'GB']
    let unit = 0
    let left = value
    while (left >= 1000 && unit < 3) {
      left /= 1000
      unit += 1
    }
    return `${unit === 0 ? left : left.toPrecision(3)} ${units[unit]}`
  }
  const seconds = (value) =>
    value === null || value === undefined
      ? '–'
      : value >= 1
        ? `${+value.toFixed(3)} s`
        : value >= 1e-3
          ? `${+(value * 1e3).toFixed(3)} ms`
          : `${+(value * 1e6).toFixed(1)} µs`

  let plots = []
  const draw = () => {
    for (const plot of plots) plot.destroy()
    plots = []
    const axis = {
      stroke: colour('dim'),
      grid: { stroke: colour('line'), width: 1 },
      ticks: { stroke: colour('line') },
    }
    const chart = (id, height, series, rows, format) => {
      const home = document.getElementById(id)
      if (home === null) return
      plots.push(
        new uPlot(
          {
            width: home.clientWidth,
            height,
            scales: { x: { time: false }, y: { range: (_u, _min, max) => [0, max > 0 ? max * 1.05 : 1] } },
            cursor: { sync: { key: 'netmem' } },
            axes: [
              { ...axis, values: (_u, ticks) => ticks.map(seconds) },
              { ...axis, size: 70, values: (_u, ticks) => ticks.map(format) },
            ],
            series: [{ label: 'time', value: (_u, value) => seconds(value) }, ...series],
          },
          [data.times, ...rows],
          home,
        ),
      )
    }
    const line = (label, i) => ({
      label,
      stroke: colour(`k${i % 7}`),
      width: 1.5,
      paths: uPlot.paths.stepped({ align: 1 }),
      points: { show: false },
      value: (_u, value) => bytes(value),
      show: !data.hidden.includes(label),
    })
    chart('memory-chart', 300, data.kinds.map(line), data.peaks, bytes)
    chart(
      'drops-chart',
      130,
      [
        {
          label: 'packets dropped',
          stroke: colour('bad'),
          fill: colour('bad'),
          paths: uPlot.paths.bars({ size: [0.9, 40] }),
          points: { show: false },
        },
      ],
      [data.drops.map((count) => count || null)],
      (value) => value,
    )
  }
  draw()
  let waiting = 0
  window.addEventListener('resize', () => {
    clearTimeout(waiting)
    waiting = setTimeout(draw, 100)
  })
  matchMedia('(prefers-color-scheme: dark)').addEventListener('change', draw)
  document.getElementById('theme').addEventListener('click', () => {
    const dark =
      root.dataset.theme === 'dark' || (!root.dataset.theme && matchMedia('(prefers-color-scheme: dark)').matches)
    root.dataset.theme = dark ? 'light' : 'dark'
    draw()
  })
})()
