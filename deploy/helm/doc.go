// Package helm proves the chart beside it: that what it renders is what Kubernetes takes,
// and what weir takes. It ships nothing.
package helm
