/*
 * Settings: a text, its origin and its rank for each row of the table; layers are
 * applied weakest first, and every text is checked where it comes in.
 */
#include "base/config.h"

#include "base/alloc.h"

#include <ctype.h>
#include <errno.h>
#include <ini.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Origins of values; a file's is its path. */
#define ENVIRONMENT "environment "
#define COMMAND_LINE "command line"

typedef struct setting {
    char *text; /* [owned] NULL = unset */
    char *origin;
    bool is_set;
} setting;

struct myr_config {
    const myr_key *table;
    size_t n_keys;
    const char *command;
    setting *settings; /* (n_keys) */
};

/* Whether word stands in a list of words apart by spaces or bars. */
static bool in_list(const char *list, const char *word)
{
    size_t n = strlen(word);
    while (*list) {
        size_t m = strcspn(list, " |");
        if (m == n && memcmp(list, word, n) == 0)
            return true;
        list += m;
        list += *list != 0;
    }
    return false;
}

static bool applies(const myr_config *config, const myr_key *key)
{
    return !key->commands || in_list(key->commands, config->command);
}

static myr_status no_memory(void)
{
    return myr_fail(MYR_ERR_NOMEM, "no memory for the settings");
}

static bool is_yes(const char *text)
{
    return in_list("yes|true|on|1", text);
}

static myr_status check(const myr_key *key, const char *text, const char *origin)
{
    char *end;
    errno = 0;
    if (key->type == MYR_KEY_FLAG && !is_yes(text) && !in_list("no|false|off|0", text))
        return myr_fail(MYR_ERR_ARG, "%s = %s (%s): say yes or no", key->name, text, origin);
    if (key->type == MYR_KEY_CHOICE && !in_list(key->choices, text))
        return myr_fail(MYR_ERR_ARG, "%s = %s (%s): it is one of %s", key->name, text, origin, key->choices);
    if (key->type == MYR_KEY_INT) {
        long long value = strtoll(text, &end, 10);
        if (errno || end == text || *end || (double)value < key->least || (double)value > key->most)
            return myr_fail(MYR_ERR_ARG, "%s = %s (%s): it is a whole number from %.0f to %.0f", key->name, text,
                            origin, key->least, key->most);
    }
    if (key->type == MYR_KEY_REAL) {
        double value = strtod(text, &end);
        if (end == text || *end || !(value >= key->least && value <= key->most))
            return myr_fail(MYR_ERR_ARG, "%s = %s (%s): it is a number from %g to %g", key->name, text, origin,
                            key->least, key->most);
    }
    return MYR_OK;
}

static myr_status put(myr_config *config, size_t i, const char *text, const char *origin, bool is_set)
{
    myr_status status = check(&config->table[i], text, origin);
    if (status != MYR_OK)
        return status;
    char *text_copy = myr_strdup(text), *origin_copy = myr_strdup(origin);
    if (!text_copy || !origin_copy) {
        free(text_copy);
        free(origin_copy);
        return no_memory();
    }
    setting *place = &config->settings[i];
    free(place->text);
    free(place->origin);
    *place = (setting){.text = text_copy, .origin = origin_copy, .is_set = is_set};
    return MYR_OK;
}

myr_status myr_config_create(const myr_key *table, size_t n_keys, const char *command, myr_config **out)
{
    *out = NULL;
    myr_config *config = myr_alloc(1, sizeof *config);
    if (!config)
        return no_memory();
    *config = (myr_config){.table = table, .n_keys = n_keys, .command = command};
    config->settings = myr_alloc(n_keys, sizeof *config->settings);
    myr_status status = config->settings ? MYR_OK : no_memory();
    for (size_t i = 0; i < n_keys && status == MYR_OK; i++)
        if (table[i].standard)
            status = put(config, i, table[i].standard, "default", false);
    if (status != MYR_OK) {
        myr_config_free(config);
        return status;
    }
    *out = config;
    return MYR_OK;
}

void myr_config_free(myr_config *config)
{
    if (!config)
        return;
    for (size_t i = 0; config->settings && i < config->n_keys; i++) {
        free(config->settings[i].text);
        free(config->settings[i].origin);
    }
    free(config->settings);
    free(config);
}

static size_t find(const myr_config *config, const char *name)
{
    size_t i = 0;
    while (i < config->n_keys && strcmp(config->table[i].name, name) != 0)
        i++;
    return i;
}

typedef struct reading {
    myr_config *config;
    const char *path;
    myr_status status;
} reading;

static int take_line(void *context, const char *section, const char *name, const char *value)
{
    (void)section; /* sections only group keys for the reader */
    reading *read = context;
    size_t i = find(read->config, name);
    if (read->status != MYR_OK)
        return 0;
    if (i == read->config->n_keys)
        read->status = myr_fail(MYR_ERR_ARG, "%s: there is no setting '%s'; 'myriops COMMAND --help' lists them",
                                read->path, name);
    else
        read->status = put(read->config, i, value, read->path, true);
    return read->status == MYR_OK;
}

myr_status myr_config_read_file(myr_config *config, const char *path)
{
    reading read = {.config = config, .path = path};
    int line = ini_parse(path, take_line, &read);
    if (read.status != MYR_OK)
        return read.status;
    if (line < 0)
        return myr_fail(MYR_ERR_IO, "%s: the settings file cannot be read", path);
    if (line > 0)
        return myr_fail(MYR_ERR_FORMAT, "%s: line %d is no 'key = value'", path, line);
    return MYR_OK;
}

myr_status myr_config_read_environment(myr_config *config)
{
    for (size_t i = 0; i < config->n_keys; i++) {
        char name[128] = "MYRIOPS_", origin[160];
        size_t at = strlen(name);
        for (const char *c = config->table[i].name; *c && at + 1 < sizeof name; c++)
            name[at++] = *c == '-' ? '_' : (char)toupper((unsigned char)*c);
        name[at] = 0;
        const char *value = getenv(name);
        if (!value)
            continue;
        snprintf(origin, sizeof origin, ENVIRONMENT "%s", name);
        myr_status status = put(config, i, value, origin, true);
        if (status != MYR_OK)
            return status;
    }
    return MYR_OK;
}

/* Levenshtein distance of short words. */
static size_t edits(const char *a, const char *b)
{
    size_t row[64], n = strlen(b);
    if (n >= 64)
        return n;
    for (size_t j = 0; j <= n; j++)
        row[j] = j;
    for (size_t i = 1; a[i - 1]; i++) {
        size_t corner = row[0];
        row[0] = i;
        for (size_t j = 1; j <= n; j++) {
            size_t best = corner + (a[i - 1] != b[j - 1]);
            corner = row[j];
            if (row[j] + 1 < best)
                best = row[j] + 1;
            if (row[j - 1] + 1 < best)
                best = row[j - 1] + 1;
            row[j] = best;
        }
    }
    return row[n];
}

static myr_status unknown_flag(const myr_config *config, const char *flag)
{
    const char *nearest = NULL;
    size_t fewest = 4;
    for (size_t i = 0; i < config->n_keys; i++) {
        size_t n = edits(flag, config->table[i].name);
        if (applies(config, &config->table[i]) && n < fewest && 2 * n <= strlen(config->table[i].name)) {
            fewest = n;
            nearest = config->table[i].name;
        }
    }
    if (nearest)
        return myr_fail(MYR_ERR_ARG, "there is no option --%s; did you mean --%s?", flag, nearest);
    return myr_fail(MYR_ERR_ARG, "there is no option --%s; 'myriops %s --help' lists them", flag, config->command);
}

/* One flag at argv[*at]; its value may be the next argument. */
static myr_status take_flag(myr_config *config, int argc, char **argv, int *at)
{
    const char *argument = argv[*at], *value = NULL;
    char name[128];
    size_t i = config->n_keys;
    if (argument[1] == '-') {
        size_t n = strcspn(argument + 2, "=");
        if (n >= sizeof name)
            n = sizeof name - 1;
        memcpy(name, argument + 2, n);
        name[n] = 0;
        value = argument[2 + n] == '=' ? argument + 3 + n : NULL;
        i = find(config, name);
        if (i == config->n_keys && strncmp(name, "no-", 3) == 0) {
            i = find(config, name + 3);
            if (i < config->n_keys && config->table[i].type == MYR_KEY_FLAG && applies(config, &config->table[i]))
                return put(config, i, "no", COMMAND_LINE, true);
            i = config->n_keys;
        }
    } else {
        snprintf(name, sizeof name, "%c", argument[1]);
        for (size_t j = 0; j < config->n_keys; j++)
            if (config->table[j].short_flag == argument[1] && applies(config, &config->table[j]))
                i = j;
        value = argument[2] ? argument + 2 + (argument[2] == '=') : NULL;
    }
    if (i == config->n_keys || !applies(config, &config->table[i]))
        return unknown_flag(config, name);
    if (config->table[i].type == MYR_KEY_FLAG)
        value = value ? value : "yes";
    else if (!value && *at + 1 < argc)
        value = argv[++*at];
    if (!value)
        return myr_fail(MYR_ERR_ARG, "--%s needs a value: --%s %s", config->table[i].name, config->table[i].name,
                        config->table[i].value_name ? config->table[i].value_name : "VALUE");
    return put(config, i, value, COMMAND_LINE, true);
}

myr_status myr_config_read_arguments(myr_config *config, int argc, char **argv, const char ***operands,
                                     size_t *n_operands)
{
    const char **rest = myr_alloc(argc > 0 ? (size_t)argc : 1, sizeof *rest);
    size_t n = 0;
    bool flags_ended = false;
    *operands = NULL;
    *n_operands = 0;
    if (!rest)
        return no_memory();
    for (int at = 0; at < argc; at++) {
        if (!flags_ended && strcmp(argv[at], "--") == 0) {
            flags_ended = true;
        } else if (!flags_ended && argv[at][0] == '-' && argv[at][1]) {
            myr_status status = take_flag(config, argc, argv, &at);
            if (status != MYR_OK) {
                free(rest);
                return status;
            }
        } else {
            rest[n++] = argv[at];
        }
    }
    *operands = rest;
    *n_operands = n;
    return MYR_OK;
}

const char *myr_config_text(const myr_config *config, const char *name)
{
    size_t i = find(config, name);
    return i < config->n_keys ? config->settings[i].text : NULL;
}

bool myr_config_flag(const myr_config *config, const char *name)
{
    const char *text = myr_config_text(config, name);
    return text && is_yes(text);
}

int64_t myr_config_int(const myr_config *config, const char *name)
{
    const char *text = myr_config_text(config, name);
    return text ? strtoll(text, NULL, 10) : 0;
}

double myr_config_real(const myr_config *config, const char *name)
{
    const char *text = myr_config_text(config, name);
    return text ? strtod(text, NULL) : 0;
}

bool myr_config_is_set(const myr_config *config, const char *name)
{
    size_t i = find(config, name);
    return i < config->n_keys && config->settings[i].is_set;
}

void myr_config_pack(const myr_config *config, myr_buffer *message)
{
    for (size_t i = 0; i < config->n_keys; i++) {
        const setting *value = &config->settings[i];
        myr_buffer_put_text(message, value->text);
        myr_buffer_put_text(message, value->origin);
        myr_buffer_put_i64(message, value->is_set);
    }
}

myr_status myr_config_adopt(myr_config *config, const void *message, size_t n_bytes, const char *except)
{
    myr_cursor cursor = {.data = message, .size = n_bytes};
    for (size_t i = 0; i < config->n_keys; i++) {
        const char *text = myr_cursor_text(&cursor), *origin = myr_cursor_text(&cursor);
        bool is_set = myr_cursor_i64(&cursor) != 0;
        if (cursor.failed)
            return myr_fail(MYR_ERR_INTERNAL, "damaged settings came in");
        if (strcmp(config->table[i].name, except) == 0)
            continue;
        myr_status status = MYR_OK;
        if (text) {
            status = put(config, i, text, origin ? origin : "", is_set);
        } else {
            free(config->settings[i].text);
            free(config->settings[i].origin);
            config->settings[i] = (setting){0};
        }
        if (status != MYR_OK)
            return status;
    }
    return MYR_OK;
}

static bool begins_with(const char *text, const char *beginning)
{
    return text && strncmp(text, beginning, strlen(beginning)) == 0;
}

myr_status myr_config_compare(const myr_config *config, const void *message, size_t n_bytes, const char *except,
                              const char *who)
{
    myr_cursor cursor = {.data = message, .size = n_bytes};
    for (size_t i = 0; i < config->n_keys; i++) {
        const char *text = myr_cursor_text(&cursor), *origin = myr_cursor_text(&cursor);
        const setting *mine = &config->settings[i];
        myr_cursor_i64(&cursor);
        if (cursor.failed)
            return myr_fail(MYR_ERR_INTERNAL, "damaged settings came in");
        bool is_same = text && mine->text ? strcmp(text, mine->text) == 0 : !text && !mine->text;
        bool was_not_passed_on = begins_with(origin, ENVIRONMENT) && !begins_with(mine->origin, ENVIRONMENT) &&
                                 !begins_with(mine->origin, COMMAND_LINE);
        if (is_same || was_not_passed_on || strcmp(config->table[i].name, except) == 0)
            continue;
        return myr_fail(MYR_ERR_ARG,
                        "the ranks were not started alike: %s is '%s' on rank 0 (%s), '%s' on %s (%s); give all ranks "
                        "the same arguments, environment and settings file",
                        config->table[i].name, text ? text : "", origin ? origin : "unset", mine->text ? mine->text : "",
                        who, mine->origin ? mine->origin : "unset");
    }
    return MYR_OK;
}

void myr_config_dump(const myr_config *config, myr_buffer *out)
{
    for (size_t i = 0; i < config->n_keys; i++)
        if (applies(config, &config->table[i]) && config->settings[i].text)
            myr_buffer_printf(out, "%-18s = %-20s ; %s\n", config->table[i].name, config->settings[i].text,
                              config->settings[i].origin);
}

void myr_config_help(const myr_config *config, myr_buffer *out)
{
    myr_buffer_puts(out, "options:\n");
    for (size_t i = 0; i < config->n_keys; i++) {
        const myr_key *key = &config->table[i];
        char flag[96], short_flag[8] = "    ";
        if (!applies(config, key))
            continue;
        if (key->short_flag)
            snprintf(short_flag, sizeof short_flag, "-%c, ", key->short_flag);
        snprintf(flag, sizeof flag, "%s--%s%s%s", short_flag, key->name, key->value_name ? " " : "",
                 key->value_name ? key->value_name : "");
        bool tells = key->standard && key->type != MYR_KEY_FLAG;
        bool chooses = tells && key->type == MYR_KEY_CHOICE;
        myr_buffer_printf(out, "  %-30s %s%s%s%s%s%s", flag, key->help, tells ? " (" : "",
                          chooses ? key->choices : "", chooses ? ", " : "", tells ? "default " : "",
                          tells ? key->standard : "");
        myr_buffer_puts(out, tells ? ")\n" : "\n");
    }
}
