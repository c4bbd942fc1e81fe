#!/bin/bash
# Cost against size as SVG: lines "clients, rate of an empty function, of is_allowed, of PL/pgSQL" in, a picture out.
set -euo pipefail
awk '
{ n++; x[n] = $1; for (s = 1; s <= 3; s++) { y[s, n] = 1e6 / $(s + 1); if (y[s, n] > top) top = y[s, n] } }
END {
	name[1] = "empty C function"; name[2] = "cmblock.is_allowed"; name[3] = "PL/pgSQL over a table"
	colour[1] = "#888888"; colour[2] = "#0b6e4f"; colour[3] = "#c0392b"
	w = 640; h = 360; left = 60; right = 170; up = 30; down = 50
	top = int(top / 5 + 1) * 5
	lo = log(x[1]); hi = log(x[n]); if (hi == lo) hi = lo + 1
	printf "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 %d %d\" font-family=\"sans-serif\" font-size=\"12\">\n", w, h
	printf "<title>Microseconds a statement against the number of clients</title>\n<rect width=\"%d\" height=\"%d\" fill=\"white\"/>\n", w, h
	printf "<text x=\"%d\" y=\"18\">microseconds a statement, one connection, pipelined</text>\n", left
	for (t = 0; t <= top; t += 5) {
		v = h - down - t / top * (h - up - down)
		printf "<line x1=\"%d\" x2=\"%d\" y1=\"%.1f\" y2=\"%.1f\" stroke=\"#dddddd\"/><text x=\"%d\" y=\"%.1f\" text-anchor=\"end\">%d</text>\n", left, w - right, v, v, left - 8, v + 4, t
	}
	for (i = 1; i <= n; i++) {
		u[i] = left + (log(x[i]) - lo) / (hi - lo) * (w - left - right)
		printf "<text x=\"%.1f\" y=\"%d\" text-anchor=\"middle\">%d</text>\n", u[i], h - down + 20, x[i]
	}
	printf "<text x=\"%.1f\" y=\"%d\" text-anchor=\"middle\">clients</text>\n", (left + w - right) / 2, h - 10
	for (s = 1; s <= 3; s++) {
		points = ""
		for (i = 1; i <= n; i++)
			points = points sprintf("%.1f,%.1f ", u[i], h - down - y[s, i] / top * (h - up - down))
		printf "<polyline points=\"%s\" fill=\"none\" stroke=\"%s\" stroke-width=\"2\"/>\n", points, colour[s]
		printf "<text x=\"%d\" y=\"%.1f\" fill=\"%s\">%s</text>\n", w - right + 8, h - down - y[s, n] / top * (h - up - down) + 4 + (s == 2 ? -8 : s == 1 ? 8 : 0), colour[s], name[s]
	}
	print "</svg>"
}'
