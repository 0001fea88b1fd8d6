package watch

import "testing"

func TestWithoutFolders(t *testing.T) {
	for text, want := range map[string]string{
		"pretrained_model_name_or_path: /home/me/sd15\n" +
			"seed: 1\n": "pretrained_model_name_or_path: sd15\nseed: 1\n",
		"train_data_dir:\n- /home/me/my data/set/\n- \"C:\\\\me\\\\set: 2\"\ncaption_column: " +
			"a/b": "train_data_dir:\n- set\n- \"set: 2\"\ncaption_column: a/b",
		"validation_prompt:\n- a cat/dog\nvalidation_image:\n" +
			"- ./me/x.png\n": "validation_prompt:\n- a cat/dog\nvalidation_image:\n- x.png\n",
		"controlnet_model_name_or_path: org/name@main\n": "controlnet_model_name_or_path: org/name@main\n",
		"{\n  \"cache_dir\": \"/home/me/cache\",\n  \"train_data_dir\": [\n    \"/home/me/a\",\n    \"../b\"\n  ],\n" +
			"  \"text\": \"a/b\"\n}": "{\n  \"cache_dir\": \"cache\",\n  \"train_data_dir\": [\n    \"a\",\n" +
			"    \"b\"\n  ],\n  \"text\": \"a/b\"\n}",
		"{\n  \"class_data_dir\": null,\n  \"instance_prompt\": \"/\"\n}": "{\n  \"class_data_dir\": null,\n" +
			"  \"instance_prompt\": \"/\"\n}",
	} {
		if got := withoutFolders(text); got != want {
			t.Errorf("got %q\nwant %q", got, want)
		}
	}
}
