package view

import (
	_ "embed"
	"slices"
)

//go:embed openapi.json
var openAPI []byte

// OpenAPI is the description of what is shown below /v2/_ext/ (OpenAPI 3.0, JSON).
func OpenAPI() []byte { return slices.Clone(openAPI) }
