package clip

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"strconv"
	"strings"

	"limner/internal/plaintext"
)

// wholeFile is what transformers 5 writes in place of vocab.json and merges.txt.
const wholeFile = "tokenizer.json"

// splitWhole converts tokenizer.json and the configuration beside it to vocab.json, merges.txt and
// tokenizer_config.json. That configuration names the special tokens; tokenizer.json has their properties.
func splitWhole(files map[string][]byte) (map[string][]byte, error) {
	var whole struct {
		Added []struct {
			ID int32 `json:"id"`
			tokenField
		} `json:"added_tokens"`
		Model struct {
			Type   string            `json:"type"`
			Suffix string            `json:"end_of_word_suffix"`
			Vocab  json.RawMessage   `json:"vocab"`
			Merges []json.RawMessage `json:"merges"`
		} `json:"model"`
	}
	if err := plaintext.JSON(files[wholeFile], &whole); err != nil {
		return nil, fmt.Errorf("%s: %w", wholeFile, err)
	}
	if whole.Model.Type != "BPE" || whole.Model.Suffix != wordEnd {
		return nil, fmt.Errorf("%s: got a %q model whose words end in %q, want BPE and %q",
			wholeFile, whole.Model.Type, whole.Model.Suffix, wordEnd)
	}
	var merges strings.Builder
	for _, raw := range whole.Model.Merges {
		line, err := mergeLine(raw)
		if err != nil {
			return nil, fmt.Errorf("%s: merge %s: %w", wholeFile, raw, err)
		}
		merges.WriteString(line + "\n")
	}
	var config map[string]json.RawMessage
	if err := plaintext.JSON(files[configFile], &config); err != nil {
		return nil, fmt.Errorf("%s: %w", configFile, err)
	}
	if config == nil {
		return nil, fmt.Errorf("%s: got null, want an object", configFile)
	}
	decoder := map[string]tokenField{}
	for _, a := range whole.Added {
		decoder[strconv.Itoa(int(a.ID))] = a.tokenField
	}
	raw, err := json.Marshal(decoder)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", wholeFile, err)
	}
	config["added_tokens_decoder"] = raw
	out := maps.Clone(files)
	out[vocabFile], out[mergesFile] = whole.Model.Vocab, []byte(merges.String())
	if out[configFile], err = json.Marshal(config); err != nil {
		return nil, fmt.Errorf("%s: %w", configFile, err)
	}
	return out, nil
}

// mergeLine is a merge as merges.txt has it. Older files hold it in that form, newer ones as two strings.
func mergeLine(raw json.RawMessage) (string, error) {
	if bytes.HasPrefix(raw, []byte("[")) {
		var pieces []string
		if err := plaintext.JSON(raw, &pieces); err != nil {
			return "", err
		}
		return strings.Join(pieces, " "), nil
	}
	var line string
	err := plaintext.JSON(raw, &line)
	return line, err
}
