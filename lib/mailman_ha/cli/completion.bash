# bash completion of mailman-ha. The command itself answers, by the distribution's package
# python3-argcomplete; without that nothing is completed and nothing is disturbed.
_mailman_ha()
{
    local IFS=$'\013'
    COMPREPLY=($(IFS="$IFS" COMP_LINE="$COMP_LINE" COMP_POINT="$COMP_POINT" COMP_TYPE="$COMP_TYPE" \
        _ARGCOMPLETE_COMP_WORDBREAKS="$COMP_WORDBREAKS" _ARGCOMPLETE_IFS="$IFS" \
        _ARGCOMPLETE_SHELL=bash _ARGCOMPLETE_SUPPRESS_SPACE=0 _ARGCOMPLETE=1 \
        "$1" 8>&1 9>/dev/null 1>/dev/null 2>/dev/null </dev/null)) || COMPREPLY=()
}
complete -o default -F _mailman_ha mailman-ha
